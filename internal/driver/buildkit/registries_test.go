package buildkit

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/remotes/docker"
)

func TestHosts(t *testing.T) {
	r := Registries{
		Insecure: []string{"plain.example:5000", "10.1.0.0/16"},
		Mirrors:  []string{"https://mirror.example/", "http://old.example:8080/hub", "plain.example:5000"},
	}
	for host, want := range map[string][]string{
		"registry.example":   {"https registry.example /v2"},
		"plain.example:5000": {"https plain.example:5000 /v2 either"},
		"10.1.2.3:5000":      {"https 10.1.2.3:5000 /v2 either"},
		"10.2.2.3:5000":      {"https 10.2.2.3:5000 /v2"},
		"127.0.0.1:5000":     {"https 127.0.0.1:5000 /v2 either"},
		"docker.io": {
			"https mirror.example /v2", "http old.example:8080 /v2/hub", "https plain.example:5000 /v2 either", "https registry-1.docker.io /v2",
		},
	} {
		hosts, err := r.hosts(host)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		var got []string
		for _, h := range hosts {
			text := fmt.Sprintf("%s %s %s", h.Scheme, h.Host, h.Path)
			if r.insecure(h.Host) {
				text += " either"
			}
			got = append(got, text)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q", host, got)
		}
	}
}

// TestDescribedHosts: what hosts.toml says takes the registry's own place, after the settings' mirrors.
func TestDescribedHosts(t *testing.T) {
	r := Registries{Mirrors: []string{"https://old.example"}, Described: func(host string) ([]docker.RegistryHost, error) {
		switch host {
		case "wrong.example":
			return nil, errors.New("hosts.toml is wrong")
		case "plain.example":
			return nil, nil
		}
		return []docker.RegistryHost{{Host: "mirror.example"}, {Host: "itself." + host}}, nil
	}}
	for host, want := range map[string]string{
		"docker.io": "old.example mirror.example itself.docker.io", "registry.example": "mirror.example itself.registry.example", "plain.example": "plain.example",
	} {
		hosts, err := r.hosts(host)
		var got []string
		for _, h := range hosts {
			got = append(got, h.Host)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q %v, want %s", host, got, err, want)
		}
	}
	if hosts, err := r.hosts("wrong.example"); err == nil {
		t.Errorf("a wrong file gives %v", hosts)
	}
}
