"""The data plane and the one address: streams to the agents, and hands everything else to API Gateway."""

VERSION = "0.1.0"
