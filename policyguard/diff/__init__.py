"""What a change of the policies does to decisions: two sets compared, each difference with a request that shows it.

Pure but for `revisions`, which asks git for the policies of an earlier commit.
"""
