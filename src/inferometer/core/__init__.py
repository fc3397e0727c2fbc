"""Values of a study: what is asked, what is sent, what happened. Pure: no clock, socket, process or file."""
