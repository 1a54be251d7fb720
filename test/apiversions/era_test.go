package apiversions

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"longshore/internal/server/route"
	"longshore/test/harness"
)

// TestEras drives the daemon as a client of each era did: run, attach, logs, wait, commit, rm, rmi, with the requests
// that the era's document shows.
func TestEras(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for _, v := range []string{"1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.8", "1.10", "1.12", "1.14", "1.15", "1.18", "1.20", "1.21", "1.24", "1.41"} {
		t.Run(v, func(t *testing.T) {
			e := era{client: client{t: t, d: d, version: v}, v: route.MustVersion(v), dir: t.TempDir()}
			e.create()
			e.attachAndStart()
			e.logs()
			e.wait()
			e.inspect()
			e.commit()
			e.images()
			e.remove()
		})
	}
}

type era struct {
	client
	v   route.Version
	dir string // bound to /data where the era could
	id  string
	img string
}

// since tells whether the era has a version.
func (e *era) since(version string) bool { return e.v >= route.MustVersion(version) }

const script = `echo out; echo err >&2; [ -e /data/in ] && echo bound; echo made > /made; exit 3`

// create uses the configuration of the era's document.
func (e *era) create() {
	cmd := fmt.Sprintf(`["sh","-c",%q]`, script)
	body := `{"Hostname":"","User":"","Memory":0,"MemorySwap":0,"AttachStdin":false,"AttachStdout":true,"AttachStderr":true,` +
		`"PortSpecs":null,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":` + cmd + `,"Dns":null,"Image":"busybox","Volumes":{},"VolumesFrom":""}`
	if e.since("1.10") {
		body = `{"Hostname":"","User":"","Memory":0,"MemorySwap":0,"AttachStdin":false,"AttachStdout":true,"AttachStderr":true,` +
			`"PortSpecs":null,"Tty":false,"OpenStdin":false,"StdinOnce":false,"Env":null,"Cmd":` + cmd + `,"Image":"busybox","Volumes":{"/tmp":{}},"WorkingDir":"",` +
			`"DisableNetwork":false,"ExposedPorts":{"22/tcp":{}}}`
	}
	if e.since("1.15") {
		body = strings.TrimSuffix(body, "}") + `,"HostConfig":{"Binds":["` + e.dir + `:/data"],"Links":[],"Privileged":false,"PublishAllPorts":false,` +
			`"Dns":["8.8.8.8"],"DnsSearch":[""],"VolumesFrom":null,"NetworkMode":"bridge","RestartPolicy":{"Name":"","MaximumRetryCount":0}}}`
	}
	a := e.want(201, "POST", "/containers/create", body)
	e.id, _ = a.object(e.t)["Id"].(string)
	if len(e.id) != 64 {
		e.t.Fatalf("no ID in %s", a.body)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "in"), nil, 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// attachAndStart starts under an open attach, as docker run did.
func (e *era) attachAndStart() {
	s := e.open("POST", "/containers/"+e.id+"/attach?stream=1&stdout=1&stderr=1", "")
	if s.status != 200 || s.header.Get("Content-Type") != "application/vnd.docker.raw-stream" {
		e.t.Fatalf("attach: %d %v", s.status, s.header)
	}
	body, status := "", 204
	switch {
	case !e.since("1.3"):
		status = 200
	case !e.since("1.15"):
		body = `{"Binds":["` + e.dir + `:/data"],"LxcConf":{"lxc.utsname":"docker"},"PortBindings":{},"PublishAllPorts":false,"Privileged":false}`
	}
	e.want(status, "POST", "/containers/"+e.id+"/start", body)
	e.judge("attach", s.all())
}

// judge checks a stream of the container's output.
func (e *era) judge(what, got string) {
	e.t.Helper()
	out := "out\n"
	if e.since("1.3") {
		out += "bound\n"
	}
	if e.since("1.6") {
		stdout, stderr, ok := unframe(got)
		if !ok || stdout != out || stderr != "err\n" {
			e.t.Errorf("%s: %q", what, got)
		}
		return
	}
	if len(got) != len(out+"err\n") || !strings.Contains(got, "out\n") || !strings.Contains(got, "err\n") {
		e.t.Errorf("%s: %q, want plain text", what, got)
	}
}

func (e *era) logs() {
	if e.since("1.11") {
		e.judge("logs", e.want(200, "GET", "/containers/"+e.id+"/logs?stdout=1&stderr=1", "").body)
		return
	}
	e.judge("logs", e.open("POST", "/containers/"+e.id+"/attach?logs=1&stdout=1&stderr=1", "").all())
}

func (e *era) wait() {
	a := e.want(200, "POST", "/containers/"+e.id+"/wait", "")
	m := a.object(e.t)
	if m["StatusCode"] != 3.0 {
		e.t.Errorf("wait: %s", a.body)
	}
	if _, has := m["Error"]; has {
		e.t.Errorf("wait tells Error: %s", a.body)
	}
}

// inspect looks for what the era showed and for what it did not know.
func (e *era) inspect() {
	m := e.want(200, "GET", "/containers/"+e.id+"/json", "").object(e.t)
	id := "Id"
	if !e.since("1.12") {
		id = "ID"
	}
	if m[id] != e.id {
		e.t.Errorf("inspect: %s is %v", id, m[id])
	}
	for key, since := range map[string]string{"HostConfig": "1.8", "Name": "1.6", "Mounts": "1.20", "ExecIDs": "1.17", "LogPath": "1.18"} {
		if _, has := m[key]; has != e.since(since) {
			e.t.Errorf("inspect: %s is there: %v", key, has)
		}
	}
	for key, until := range map[string]string{"Volumes": "1.20", "VolumesRW": "1.20", "SysInitPath": "1.17"} {
		if _, has := m[key]; has != !e.since(until) {
			e.t.Errorf("inspect: %s is there: %v", key, has)
		}
	}
	if !e.since("1.20") && e.since("1.3") {
		if m["Volumes"].(map[string]any)["/data"] != e.dir || m["VolumesRW"].(map[string]any)["/data"] != true {
			e.t.Errorf("inspect: volumes %v %v", m["Volumes"], m["VolumesRW"])
		}
	}
}

func (e *era) commit() {
	path := "/commit?container=" + e.id + "&repo=era" + e.version + "&tag=t&m=message&author=John"
	body := ""
	if e.since("1.9") {
		body = `{"Cmd":["cat","/made"],"Env":null}`
	} else {
		path += `&run=%7B%22Cmd%22:%5B%22cat%22,%22/made%22%5D%7D`
	}
	e.img, _ = e.want(201, "POST", path, body).object(e.t)["Id"].(string)
	if e.img == "" {
		e.t.Error("commit tells no Id")
	}
	cfg := e.want(200, "GET", "/images/era"+e.version+":t/json", "").object(e.t)
	key, comment := "config", "comment"
	if e.since("1.12") {
		key, comment = "Config", "Comment"
	}
	c, ok := cfg[key].(map[string]any)
	if !ok || fmt.Sprint(c["Cmd"]) != "[cat /made]" || cfg[comment] != "message" && !e.since("1.12") {
		e.t.Errorf("committed image: %v", cfg)
	}
}

func (e *era) images() {
	want := 0
	for _, row := range e.want(200, "GET", "/images/json", "").list(e.t) {
		if e.since("1.7") {
			if tags, ok := row["RepoTags"].([]any); ok && len(tags) == 1 && tags[0] == "era"+e.version+":t" {
				want++
			}
			continue
		}
		if row["Repository"] == "era"+e.version && row["Tag"] == "t" && row["Id"] == e.img {
			want++
		}
	}
	if want != 1 {
		e.t.Errorf("%d rows of the image in the list", want)
	}
}

func (e *era) remove() {
	e.want(204, "DELETE", "/containers/"+e.id+"?v=1", "")
	status := 200
	if !e.since("1.2") {
		status = 204
	}
	a := e.want(status, "DELETE", "/images/era"+e.version+":t", "")
	if status == 200 && len(a.list(e.t)) < 2 {
		e.t.Errorf("removal of the image: %s", a.body)
	}
	a = e.do("GET", "/containers/"+e.id+"/json", "")
	plain := !strings.HasPrefix(a.body, "{")
	if a.status != 404 || plain == e.since("1.24") {
		e.t.Errorf("a missing container: %d %q", a.status, a.body)
	}
}
