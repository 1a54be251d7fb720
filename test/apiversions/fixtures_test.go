package apiversions

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"longshore/test/harness"
)

var (
	update         = flag.Bool("update", false, "write testdata/canonical and testdata/views anew")
	updateFixtures = flag.Bool("update-fixtures", false, "write testdata/newest anew, from a daemon")
)

// TestFixtures writes, when asked, what the newest version answers: the views that golden files lower.
func TestFixtures(t *testing.T) {
	if !*updateFixtures {
		t.Skip("writes files: ask with -update-fixtures")
	}
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	c := client{t: t, d: d}
	dir := t.TempDir()
	d.OK("network", "create", "--subnet", "10.99.0.0/24", "front")
	d.OK("volume", "create", "--label", "a=b", "data")
	id := d.OK("run", "-d", "--name", "web", "--hostname", "web", "--network", "front", "-p", "127.0.0.1:8080:80", "-p", "53/udp", "-v", "data:/data", "-v", dir+":/host:ro",
		"-l", "tier=front", "-m", "64m", "--cpu-shares", "512", "--cpuset-cpus", "0", "--health-cmd", "true", "--health-interval", "1s", "--restart", "on-failure:3", "-e", "A=b",
		"--cap-add", "NET_ADMIN", "--ulimit", "nofile=100:200", "busybox", "sleep", "1000")
	d.OK("run", "-d", "--name", "plain", "-p", "81", "busybox", "sleep", "1000")
	harness.Eventually(t, 20e9, "the container is healthy", func() bool {
		return d.OK("inspect", "-f", "{{.State.Health.Status}}", "web") == "healthy"
	})
	exec, _ := c.want(201, "POST", "/containers/web/exec", `{"AttachStdout":true,"Cmd":["sleep","100"]}`).object(t)["Id"].(string)
	c.want(200, "POST", "/exec/"+exec+"/start", `{"Detach":true}`)
	d.OK("exec", "web", "touch", "/new")
	d.OK("commit", "-m", "message", "-a", "John", "--change", "LABEL x=y", "web", "committed:v1")
	net := d.OK("network", "inspect", "-f", "{{.ID}}", "front")
	for name, path := range map[string]string{
		"containers-json": "/containers/json?all=1&size=1", "containers-id-json": "/containers/" + id + "/json?size=1",
		"containers-id-top": "/containers/web/top", "containers-id-changes": "/containers/web/changes",
		"containers-id-stats": "/containers/web/stats?stream=0", "images-json": "/images/json", "images-name-json": "/images/committed:v1/json",
		"images-name-history": "/images/committed:v1/history", "info": "/info", "version": "/version", "networks": "/networks",
		"networks-id": "/networks/" + net, "volumes": "/volumes", "volumes-name": "/volumes/data", "system-df": "/system/df", "exec-id-json": "/exec/" + exec + "/json",
	} {
		writeFixture(t, name, strings.NewReplacer(d.Dir, "/var/lib/longshore", dir, "/host").Replace(c.want(200, "GET", path, "").body))
	}
	writeFixture(t, "events", c.want(200, "GET", "/events?since=0&until=1&filters={}", "").body+
		`{"Type":"container","Action":"start","Actor":{"ID":"`+id+`","Attributes":{"image":"busybox","name":"web"}},"scope":"local","time":1,"timeNano":1000000001}`)
	writeFixture(t, "images-search", `[{"star_count":5,"is_official":true,"name":"busybox","is_automated":false,"description":"Busybox base image."}]`)
	writeFixture(t, "auth", `{"IdentityToken":"9cbaf023786cd7","Status":"Login Succeeded"}`)
	writeFixture(t, "images-name", `[{"Untagged":"committed:v1"},{"Deleted":"sha256:3e2f21a89f"}]`)
	writeFixture(t, "containers-create", `{"Id":"`+id+`","Warnings":[]}`)
	writeFixture(t, "containers-id-exec", `{"Id":"`+exec+`"}`)
	writeFixture(t, "containers-id-wait", `{"StatusCode":0}`)
	writeFixture(t, "containers-id-update", `{"Warnings":[]}`)
	writeFixture(t, "commit", `{"Id":"sha256:596069db4bf5"}`)
	writeFixture(t, "volumes-create", c.want(200, "GET", "/volumes/data", "").body)
	writeFixture(t, "networks-create", `{"Id":"`+net+`","Warning":""}`)
}

func writeFixture(t *testing.T, name, doc string) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(doc), "", " "); err != nil {
		t.Fatalf("%s: %v in %s", name, err, doc)
	}
	if err := os.MkdirAll("testdata/newest", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata/newest", name+".json"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
