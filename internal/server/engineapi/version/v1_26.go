package version

// v1_26 is what 1.26 changed against 1.25: the reply of a network prune, whose 1.25 form stood in the document only
// (document diff; the daemon always sent NetworksDeleted).
func v1_26() Rung { return Rung{Version: "1.26", Source: "v1.25.yaml, version-history.md"} }
