"""How is a comparison shown? One module for each form."""
