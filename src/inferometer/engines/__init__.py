"""Which servers can be put under test? One module an engine; each is imported only when an arm asks for it."""
