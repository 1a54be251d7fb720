// Package registryclient talks to v2 registries (OCI distribution 1.1).
package registryclient

// Client talks to registries.
type Client struct{}
