"""The demonstration: simulated machines in a process of their own, two companies' nodes, and the journey between them."""
