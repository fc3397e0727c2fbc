"""Values of a study: specification, requests, plan, records. Pure: no clock, socket, process or file."""
