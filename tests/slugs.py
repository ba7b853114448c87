"""Slugs that the charm must refuse."""

INVALID = [
    "",
    " ",
    ".",
    "..",
    "../etc",
    "/",
    "/foo/",
    "foo/bar",
    "Foo",
    "FOO",
    "foo bar",
    "foo\tbar",
    "foo\0bar",
    "foo\x7f",
    "foo_bar",
    "foo%2fbar",
    "foo?bar=baz",
    "foo#bar",
    "foo\\bar",
    "foo\n",
    "\nfoo",
    "foo\nbar",
    "foo\r",
    "foo\u2028",
    "foo\u200b",
    'foo"',
    "foo'",
    'foo/" "http://other.example/"\nReversePath "/bar',
    "$(id)",
    "`id`",
    "[a-z0-9-]+",
    "\ufb00",  # The ligature of two letters f.
    "\uff46\uff4f\uff4f",  # Full-width letters.
    "\u0444\u043e\u043e",  # Cyrillic.
    "\u0661\u0662",  # Arabic digits.
    "\u0131",  # The Turkish i without a dot.
    "\u00e9t\u00e9",
    "\U0001f600",
]
TOO_LONG = ["a" * 201, "a" * 3000, "A" * 3000]
