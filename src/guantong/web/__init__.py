"""The HTTP shell: app, sign-in, pages, static build."""
