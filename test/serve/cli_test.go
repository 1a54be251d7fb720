package serve

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"longshore/test/harness"
)

// curl asks the registry with a user's password; it gives the body and the status.
func curl(d *harness.Daemon, user, method, path string, more ...string) (body, status string) {
	d.T.Helper()
	args := append([]string{"-s", "-m", "20", "-X", method, "-w", "\n%{http_code}", "-u", user + ":" + user + "'s password"}, more...)
	r := d.InNet("curl", append(args, "http://"+host+path)...)
	if r.Code != 0 {
		d.T.Fatalf("curl %s %s: %d %s", method, path, r.Code, r.Err)
	}
	i := strings.LastIndexByte(r.Out, '\n')
	return r.Out[:i], r.Out[i+1:]
}

func pushedDigest(t *testing.T, out string) string {
	t.Helper()
	i := strings.Index(out, "sha256:")
	if i < 0 {
		t.Fatalf("push said %q", out)
	}
	return strings.Fields(out[i:])[0]
}

// TestDockerCLI: what people do with docker and a private registry.
func TestDockerCLI(t *testing.T) {
	d := startSecured(t, "", "")
	t.Run("login", func(t *testing.T) {
		for user, password := range map[string]string{"alice": "wrong", "nobody": "x", "bob": "alice's password"} {
			r := d.DockerIn(strings.NewReader(password), "login", "-u", user, "--password-stdin", host)
			if r.Code == 0 || !strings.Contains(r.Err, "unauthorized") {
				t.Errorf("%s with %q: exit %d %s%s", user, password, r.Code, r.Out, r.Err)
			}
		}
		login(d, "alice")
	})
	name := host + "/team/cli:v1"
	d.OK("tag", "busybox", name)
	digest := pushedDigest(t, d.OK("push", name))
	t.Run("push and pull", func(t *testing.T) {
		if id := d.OK("inspect", "-f", "{{.Id}}", name); id != digest {
			t.Errorf("pushed %s, the image is %s", digest, id)
		}
		d.OK("rmi", name)
		if out := d.OK("pull", name); !strings.Contains(out, "Digest: "+digest) {
			t.Errorf("pull said %q", out)
		}
		d.OK("pull", host+"/team/cli@"+digest)
		d.OK("pull", "-a", host+"/team/cli")
		d.Fails("not found", "pull", host+"/team/cli:none")
		d.Fails("pull access denied", "pull", host+"/elsewhere:v1")
		if out := d.OK("run", "--rm", name, "echo", "run"); out != "run" {
			t.Errorf("got %q", out)
		}
	})
	t.Run("as another, and as nobody", func(t *testing.T) {
		r := d.DockerIn(strings.NewReader("bob's password"), "login", "-u", "bob", "--password-stdin", host)
		if r.Code != 0 {
			t.Fatal(r.Err)
		}
		d.Fails("denied", "push", name)
		d.OK("pull", name)
		d.OK("logout", host)
		d.Fails("no basic auth credentials", "pull", name)
		d.Fails("no basic auth credentials", "push", name)
		login(d, "alice")
	})
	t.Run("several platforms", func(t *testing.T) { platforms(t, d) })
	t.Run("catalogue and tags", func(t *testing.T) {
		d.OK("tag", name, host+"/team/cli:v2")
		d.OK("push", "-a", host+"/team/cli")
		body, status := curl(d, "alice", "GET", "/v2/_catalog")
		if status != "200" || !slices.Contains(list(t, body, "repositories"), "team/cli") {
			t.Errorf("catalogue: %s %s", status, body)
		}
		if body, _ = curl(d, "nobody", "GET", "/v2/_catalog"); strings.Contains(body, "team/cli") {
			t.Errorf("a wrong password sees %s", body)
		}
		body, status = curl(d, "bob", "GET", "/v2/team/cli/tags/list")
		if status != "200" || !slices.Equal(list(t, body, "tags"), []string{"v1", "v2"}) {
			t.Errorf("tags: %s %s", status, body)
		}
	})
	t.Run("delete", func(t *testing.T) { deletion(t, d, name, digest) })
}

// platforms pushes two images, makes one name of them, and pulls each of them by it.
func platforms(t *testing.T, d *harness.Daemon) {
	multi := host + "/team/multi"
	for _, arch := range []string{"amd64", "arm64"} {
		root := d.InNet("sh", "-c", "printf '%s' "+arch+" >"+d.Dir+"/arch && tar -C "+d.Dir+" -cf "+d.Dir+"/arch.tar arch && docker import --platform linux/"+arch+" "+d.Dir+"/arch.tar "+multi+":"+arch)
		if root.Code != 0 {
			t.Fatalf("import: %s%s", root.Out, root.Err)
		}
		d.OK("push", multi+":"+arch)
	}
	for _, args := range [][]string{
		{"create", "--insecure", multi + ":v1", multi + ":amd64", multi + ":arm64"},
		{"push", "--insecure", multi + ":v1"},
	} {
		if r := d.InNet("docker", append([]string{"manifest"}, args...)...); r.Code != 0 {
			t.Fatalf("docker manifest %v: %s%s", args, r.Out, r.Err)
		}
	}
	shown := d.InNet("docker", "manifest", "inspect", "--insecure", multi+":v1")
	for _, arch := range []string{"amd64", "arm64"} {
		if !strings.Contains(shown.Out, `"architecture": "`+arch+`"`) {
			t.Errorf("docker manifest inspect: %s%s", shown.Out, shown.Err)
		}
		d.OK("rmi", multi+":"+arch)
	}
	for _, arch := range []string{"arm64", "amd64"} {
		d.OK("pull", "--platform", "linux/"+arch, multi+":v1")
		if got := d.OK("image", "inspect", "--platform", "linux/"+arch, "-f", "{{.Architecture}}", multi+":v1"); got != arch {
			t.Errorf("pulled %s, not %s", got, arch)
		}
	}
	d.Fails("no matching manifest", "pull", "--platform", "linux/s390x", multi+":v1")
}

// deletion removes tags and then the manifest: what is gone cannot be pulled, and a repository without tags is no more.
func deletion(t *testing.T, d *harness.Daemon, name, digest string) {
	if _, status := curl(d, "bob", "DELETE", "/v2/team/cli/manifests/v2"); status != "403" {
		t.Errorf("bob deletes: %s", status)
	}
	for _, tag := range []string{"v2", "v1"} {
		if body, status := curl(d, "alice", "DELETE", "/v2/team/cli/manifests/"+tag); status != "202" {
			t.Errorf("delete %s: %s %s", tag, status, body)
		}
	}
	if body, _ := curl(d, "alice", "GET", "/v2/_catalog"); slices.Contains(list(t, body, "repositories"), "team/cli") {
		t.Errorf("catalogue after the last tag: %s", body)
	}
	_, status := curl(d, "alice", "DELETE", "/v2/team/cli/manifests/"+digest)
	if status != "202" && status != "404" {
		t.Errorf("delete by digest: %s", status)
	}
	d.OK("rmi", "-f", name)
	d.Fails("not found", "pull", name)
	d.Fails("not found", "pull", host+"/team/cli@"+digest)
}

func list(t *testing.T, body, key string) []string {
	t.Helper()
	var doc map[string]json.RawMessage
	var names []string
	if json.Unmarshal([]byte(body), &doc) != nil || json.Unmarshal(doc[key], &names) != nil {
		t.Errorf("no %s in %s", key, body)
	}
	return names
}
