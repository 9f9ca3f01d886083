"""Independent auditors that nobody of us wrote, run on a site's hosts: what each says is kept as it said it."""
