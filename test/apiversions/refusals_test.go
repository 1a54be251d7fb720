package apiversions

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

// TestRefusedVersions: the settings that refuse clients newer than the newest version or older than a chosen one.
func TestRefusedVersions(t *testing.T) {
	t.Parallel()
	d := harness.New(t)
	if err := os.WriteFile(filepath.Join(d.Dir, "daemon.json"), []byte(`{"refuse-newer-clients":true,"min-api-version":"1.24"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Up()
	for path, want := range map[string]struct {
		status int
		words  string
	}{
		"/v1.56/info":  {400, "client version 1.56 is too new. Maximum supported API version is " + newest},
		"/v1.23/info":  {400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		"/v1.24/info":  {200, ""},
		"/v1.55/info":  {200, ""},
		"/info":        {200, ""},
		"/v1.99/_ping": {400, "too new"},
	} {
		a := v(t, d, "").do("GET", path, "")
		if a.status != want.status || !strings.Contains(a.body, want.words) || a.header.Get("Api-Version") != newest {
			t.Errorf("%s: %d %v %s", path, a.status, a.header, a.body)
		}
	}
	m := v(t, d, "").want(200, "GET", "/version", "").object(t)
	if m["MinAPIVersion"] != "1.24" {
		t.Errorf("version tells %v", m["MinAPIVersion"])
	}
}

// macAddresses: where a MAC address is asked for, refused and told, below 1.44, from 1.44 to 1.51, and since.
func macAddresses(t *testing.T, d *harness.Daemon) {
	const mac, other = "02:42:ac:11:00:77", "02:42:ac:11:00:78"
	wide := `{"Image":"busybox","Cmd":["true"],"MacAddress":"` + mac + `"`
	endpoint := `,"NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"`
	for _, c := range []struct {
		version, body string
		status        int
		words, asked  string // asked is what 1.41 and 1.51 tell afterwards
	}{
		{"1.43", wide + "}", 201, "", mac},
		{"1.43", wide + endpoint + other + `"}}}}`, 201, "", mac}, // endpoints had none
		{"1.43", wide + `,"HostConfig":{"NetworkMode":"host"}}`, 400, "conflicting options: mac-address and the network mode", ""},
		{"1.44", wide + "}", 201, "", mac},
		{"1.44", wide + endpoint + mac + `"}}}}`, 201, "", mac},
		{"1.51", wide + endpoint + other + `"}}}}`, 400, "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be omitted", ""},
		{"1.51", wide + `,"HostConfig":{"NetworkMode":"host"}}`, 201, "", ""},
		{"1.52", wide + "}", 400, "container-wide MAC address no longer supported", ""},
		{"1.52", `{"Image":"busybox","Cmd":["true"]` + endpoint + mac + `"}}}}`, 201, "", mac},
		{"1.43", `{"Image":"busybox","Cmd":["true"]` + endpoint + mac + `"}}}}`, 201, "", ""},
	} {
		a := v(t, d, c.version).do("POST", "/containers/create", c.body)
		if a.status != c.status || !strings.Contains(a.body, c.words) {
			t.Errorf("%s %s: %d %s", c.version, c.body, a.status, a.body)
		}
		if a.status != 201 {
			continue
		}
		id, _ := a.object(t)["Id"].(string)
		for version, want := range map[string]any{"1.41": c.asked, "1.51": c.asked, "1.52": ""} {
			cfg, _ := v(t, d, version).want(200, "GET", "/containers/"+id+"/json", "").object(t)["Config"].(map[string]any)
			if got, _ := cfg["MacAddress"].(string); got != want {
				t.Errorf("%s %s: Config.MacAddress is %q at %s", c.version, c.body, got, version)
			}
		}
		d.OK("rm", id)
	}
}
