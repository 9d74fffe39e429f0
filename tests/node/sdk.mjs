// Makes calls with OpenAI's own Node SDK and prints as JSON what its user sees of each: a list of calls on stdin.
//
// The address and the key come from OPENAI_BASE_URL and OPENAI_API_KEY. What the SDK would wait before it tries again
// is noted and not waited: its own `sleep` is the one place where it waits.
import { createReadStream } from "node:fs";
import { text } from "node:stream/consumers";

const later = globalThis.setTimeout;
let pauses = [];
globalThis.setTimeout = (call, ms = 0, ...rest) => {
  if (!new Error().stack.includes("utils/sleep.mjs")) return later(call, ms, ...rest);
  pauses.push(ms);
  return later(call, 0, ...rest);
};

const { default: OpenAI } = await import("openai");

function seen(headers) {
  const wanted = ["x-request-id", "x-policyguard-decision", "x-policyguard-adjusted", "retry-after"];
  return Object.fromEntries(wanted.map((name) => [name, headers?.get(name) ?? null]));
}

async function make({ route, body, files = {}, stop_after: last = Infinity, ...options }) {
  const client = new OpenAI({ maxRetries: options.max_retries ?? 0, apiKey: options.key });
  for (const [name, paths] of Object.entries(files)) {
    body[name] = Array.isArray(paths) ? paths.map((path) => createReadStream(path)) : createReadStream(paths);
  }
  const call = route.split(".").reduce((place, name) => place[name].bind?.(place) ?? place[name], client);
  const { data, response, request_id } = await call(body, { headers: options.headers }).withResponse();
  const answer = { status: response.status, request_id, headers: seen(response.headers) };
  if (!body.stream) return { ...answer, data };
  const events = [];
  for await (const event of data) {
    if (events.push(event.type) >= last) break;
  }
  return { ...answer, events };
}

function told(error) {
  const { status = null, code = null, param = null, type = null, requestID = null, message } = error;
  const error_body = error.error ?? null;
  return { raised: error.constructor.name, status, code, param, type, request_id: requestID, message, error: error_body,
           headers: seen(error.headers) };
}

const answers = [];
for (const call of JSON.parse(await text(process.stdin))) {
  pauses = [];
  const answer = await make(call).catch(told);
  answers.push({ ...answer, pauses });
}
console.log(JSON.stringify(answers));
