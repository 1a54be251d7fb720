package registryv1

import (
	"os/exec"
	"path/filepath"
	"testing"

	"longshore/internal/boot/registryboot/registrytest"
)

// TestSkopeo copies what an old client has pushed to an OCI layout and back, where an old client pulls it.
func TestSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed")
	}
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	c.push("foo/bar", "v1", chain)
	layout := "oci:" + filepath.Join(t.TempDir(), "layout") + ":v1"
	for _, args := range [][]string{
		{"copy", "--src-tls-verify=false", "docker://" + r.Addr + "/foo/bar:v1", layout},
		{"copy", "--dest-tls-verify=false", layout, "docker://" + r.Addr + "/copied/app:v1"},
	} {
		if out, err := exec.Command("skopeo", append([]string{"--insecure-policy"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("skopeo %v: %v\n%s", args, err, out)
		}
	}
	got := c.pull("copied/app", "v1")
	if len(got) != 2 || string(unzip(t, got[1].layer)) != string(chain[2].layer) || v1Config(t, got[1]).Cmd[0] != "/bin/hello" {
		t.Fatalf("%d images", len(got))
	}
}
