package cgroup

import "testing"

func TestRuntimePath(t *testing.T) {
	for in, want := range map[string]string{
		"/longshore/abc":            "/longshore/abc",
		"system.slice:docker:abc":   "/system.slice/docker-abc.scope",
		"a-b-c.slice:docker:abc":    "/a.slice/a-b.slice/a-b-c.slice/docker-abc.scope",
		"-.slice:docker:abc":        "/docker-abc.scope",
		"relative":                  "",
		":docker:abc":               "",
		"":                          "",
		"system.slice:docker:a:b:c": "",
	} {
		if got := RuntimePath(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
