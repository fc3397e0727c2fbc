"""What do other tools' files say? One module a tool: its text in, our types out."""
