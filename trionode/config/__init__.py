"""One typed settings tree; every constant of docs/spec/config.md with its unit and default."""
