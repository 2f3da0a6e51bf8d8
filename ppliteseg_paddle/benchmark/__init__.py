"""How fast an exported model is, said so that somebody else can measure it again."""
