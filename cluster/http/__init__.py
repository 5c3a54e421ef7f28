"""What is served over HTTP: metrics and the page; it imports cluster.net, cluster.access and figures of the engine."""
