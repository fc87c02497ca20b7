"""The web view, `rt.inspect --web`: one page, live, that can change nothing."""
