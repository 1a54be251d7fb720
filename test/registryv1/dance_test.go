package registryv1

import (
	"testing"

	"longshore/internal/boot/registryboot/registrytest"
)

// TestStandalone: without people, push and pull and deletion go with tokens for nobody.
func TestStandalone(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	c.push("foo/bar", "v1", chain)
	same(t, newClient(t, r.Addr, "", "").pull("foo/bar", "v1"), chain)
	c.push("foo/bar", "v2", chain[:2])
	same(t, c.pull("foo/bar", "v2"), chain[:2])
	same(t, c.pull("foo/bar", "v1"), chain)
	c.delete("foo/bar")
	c.ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 404)
	c.do("GET", r.Addr, "/v1/repositories/foo/bar/tags", nil).want(t, 404)
}
