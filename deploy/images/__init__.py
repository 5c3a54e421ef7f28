"""The container images, built and run without a registry and without a container engine: `make images-test`."""
