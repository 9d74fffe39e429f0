// The AI SDK: generateImage and the image tool, over three turns. Prints what its user sees as JSON.
import { createOpenAI } from "@ai-sdk/openai";
import { generateImage, generateText, streamText } from "ai";

globalThis.AI_SDK_LOG_WARNINGS = false;
const { OPENAI_BASE_URL: baseURL, OPENAI_API_KEY, TOOL_KEY, TINY_KEY } = process.env;
const [images, tool, tiny] = [OPENAI_API_KEY, TOOL_KEY, TINY_KEY].map((apiKey) => createOpenAI({ baseURL, apiKey }));
const MODEL = "gpt-image-2-2026-04-21";

function draw(provider, messages, { options = {}, reasoning, call = generateText } = {}) {
  const tools = { image_generation: provider.tools.imageGeneration(options) };
  const openai = { store: false, ...reasoning };
  return call({ model: provider.responses("gpt-6-luna"), tools, messages, maxRetries: 0, providerOptions: { openai } });
}

const picture = (result) => result.staticToolResults.concat(result.dynamicToolResults)[0].output.result;
const user = (...content) => ({ role: "user", content });
const text = (words) => ({ type: "text", text: words });
const shown = (data) => ({ type: "file", mediaType: "image/png", data });

async function told(call) {
  try {
    await call();
  } catch (error) {
    return { raised: error.name, status: error.statusCode ?? null, said: error.message };
  }
  throw new Error("it was not refused");
}

// What it keeps of a picture it sends back as an id alone, or not at all: the picture is shown as the next words' image.
async function turns() {
  const said = [user(text("a cat"))];
  const found = [];
  for (const words of ["make it blue", "and add a hat", null]) {
    const result = await draw(tool, said, { reasoning: { reasoningEffort: "low", forceReasoning: true } });
    found.push(picture(result).length);
    said.push(...result.response.messages, user(shown(picture(result)), text(words ?? "")));
  }
  return found;
}

const made = await generateImage({ model: images.image(MODEL), prompt: "a cat", maxRetries: 0,
                                   providerOptions: { openai: { quality: "auto" } } });
const first = await draw(tool, [user(text("a cat"))], { reasoning: { store: true } });
const again = [user(text("a cat")), ...first.response.messages, user(text("make it blue"))];
const stream = draw(tool, [user(text("a cat"))], { call: streamText });
const streamed = new Set();
for await (const part of stream.fullStream) streamed.add(part.type);
const budget = { model: tiny.image(MODEL), prompt: "a cat", maxRetries: 0 };
await generateImage(budget);
console.log(JSON.stringify({
  made: made.image.base64.length,
  turns: await turns(),
  streamed: [...streamed],
  by_id: await told(() => draw(tool, again, { reasoning: { store: true } })),
  refused: await told(() => generateImage({ model: images.image("dall-e-3"), prompt: "a cat", maxRetries: 0 })),
  tool_refused: await told(() => draw(tool, [user(text("a cat"))], { options: { model: "gpt-image-9" } })),
  spent: await told(() => generateImage(budget)),
}));
