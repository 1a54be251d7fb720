package apiversions

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestBoundaries looks at the bytes on the wire just below each version that changed them, and at it.
func TestBoundaries(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "-d", "--name", "web", "-p", "127.0.0.1:8123:80", "busybox", "sh", "-c", "echo out; echo err >&2; exec sleep 1000")
	d.OK("run", "-d", "-t", "--name", "tty", "busybox", "sh", "-c", "echo out; exec sleep 1000")
	for name, test := range map[string]func(*testing.T, *harness.Daemon){
		"streams":      streams,
		"upgrades":     upgrades,
		"websocket":    websockets,
		"wait":         waits,
		"progress":     progress,
		"events":       eventShapes,
		"eventKinds":   eventKinds,
		"stats":        statsShapes,
		"state":        stateStatuses,
		"start":        startBody,
		"inspection":   inspections,
		"lists":        lists,
		"copy":         copies,
		"exec":         execs,
		"info":         infos,
		"negotiation":  negotiation,
		"credentials":  credentials,
		"create":       creates,
		"removedPaths": removedPaths,
		"mac":          macAddresses,
	} {
		t.Run(name, func(t *testing.T) { test(t, d) })
	}
}

func v(t *testing.T, d *harness.Daemon, version string) client {
	return client{t: t, d: d, version: version}
}

const (
	rawType   = "application/vnd.docker.raw-stream"
	muxType   = "application/vnd.docker.multiplexed-stream"
	logsQuery = "?stdout=1&stderr=1"
)

func streams(t *testing.T, d *harness.Daemon) {
	for _, c := range []struct {
		version, container, path, contentType string
		framed                                bool
	}{
		{"1.5", "web", "attach", rawType, false},
		{"1.6", "web", "attach", rawType, true},
		{"1.6", "tty", "attach", rawType, false},
		{"1.41", "web", "attach", rawType, true},
		{"1.42", "web", "attach", rawType, true}, // multiplexed only with 101
		{"1.42", "tty", "attach", rawType, false},
		{"1.11", "web", "logs", rawType, true},
		{"1.41", "web", "logs", rawType, true},
		{"1.42", "web", "logs", muxType, true},
		{"1.41", "tty", "logs", rawType, false},
		{"1.42", "tty", "logs", rawType, false},
	} {
		method, query := "POST", logsQuery+"&logs=1"
		if c.path == "logs" {
			method, query = "GET", logsQuery
		}
		s := v(t, d, c.version).open(method, "/containers/"+c.container+"/"+c.path+query, "")
		text := s.all()
		_, _, framed := unframe(text)
		if s.status != 200 || s.header.Get("Content-Type") != c.contentType || framed != c.framed || !strings.Contains(text, "out") {
			t.Errorf("%+v: %d %s %q", c, s.status, s.header.Get("Content-Type"), text)
		}
	}
	if a := v(t, d, "1.10").do("GET", "/containers/web/logs"+logsQuery, ""); a.status != 404 {
		t.Errorf("logs before 1.11: %d", a.status)
	}
}

func upgrades(t *testing.T, d *harness.Daemon) {
	ask := []string{"Connection: Upgrade", "Upgrade: tcp"}
	for _, c := range []struct {
		version, container string
		status             int
		contentType        string
	}{
		{"1.16", "web", 200, rawType}, {"1.17", "web", 101, rawType}, {"1.41", "web", 101, rawType},
		{"1.42", "web", 101, muxType}, {"1.42", "tty", 101, rawType}, {"", "web", 101, muxType},
	} {
		for _, path := range []string{"attach", "exec"} {
			cl := v(t, d, c.version)
			var s *stream
			if path == "attach" {
				s = cl.open("POST", "/containers/"+c.container+"/attach"+logsQuery+"&logs=1", "", ask...)
			} else {
				id := cl.want(201, "POST", "/containers/web/exec", fmt.Sprintf(`{"AttachStdout":true,"Tty":%t,"Cmd":["echo","hi"]}`, c.container == "tty")).object(t)["Id"].(string)
				s = cl.open("POST", "/exec/"+id+"/start", fmt.Sprintf(`{"Detach":false,"Tty":%t}`, c.container == "tty"), ask...)
			}
			upgraded := s.header.Get("Upgrade") == "tcp"
			if s.status != c.status || s.header.Get("Content-Type") != c.contentType || upgraded != (c.status == 101) || s.all() == "" {
				t.Errorf("%s %+v: %d %v", path, c, s.status, s.header)
			}
		}
	}
}

// websockets reads the first frame by hand: its first byte tells the kind.
func websockets(t *testing.T, d *harness.Daemon) {
	ask := []string{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="}
	for version, first := range map[string]byte{"1.27": 0x81, "1.28": 0x82} {
		s := v(t, d, version).open("GET", "/containers/web/attach/ws?logs=1&stdout=1", "", ask...)
		b, err := s.r.ReadByte()
		if s.status != 101 || err != nil || b != first {
			t.Errorf("%s: %d, first byte %#x (%v), want %#x", version, s.status, b, err, first)
		}
	}
	for version, want := range map[string]bool{"1.41": true, "1.42": false} {
		s := v(t, d, version).open("GET", "/containers/web/attach/ws?logs=1&stdout=1", "", ask...)
		_ = s.conn.SetDeadline(time.Now().Add(time.Second))
		var text bytes.Buffer
		_, _ = text.ReadFrom(s.r)
		if got := strings.Contains(text.String(), "err"); got != want {
			t.Errorf("%s: standard error came: %v, in %q", version, got, text.String())
		}
	}
}

// waits sees whether the head comes before the container ends.
func waits(t *testing.T, d *harness.Daemon) {
	for version, early := range map[string]bool{"1.29": false, "1.30": true} {
		d.OK("run", "-d", "--name", "w"+version, "busybox", "sleep", "1000")
		type head struct {
			s  *stream
			at time.Time
		}
		heads := make(chan head, 1)
		go func() {
			s := v(t, d, version).open("POST", "/containers/w"+version+"/wait?condition=next-exit", "")
			heads <- head{s, time.Now()}
		}()
		var h head
		came := false
		select {
		case h = <-heads:
			came = true
		case <-time.After(400 * time.Millisecond):
		}
		killed := time.Now()
		d.OK("kill", "w"+version)
		if !came {
			h = <-heads
		}
		if came != early || (early && h.at.After(killed)) {
			t.Errorf("%s: head came early: %v", version, came)
		}
		if got := strings.TrimSpace(h.s.all()); got != `{"StatusCode":137}` {
			t.Errorf("%s: %s", version, got)
		}
	}
}

func layer(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "f", Mode: 0o644, Size: 1}); err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("x"))
	_ = w.Close()
	return b.String()
}

func progress(t *testing.T, d *harness.Daemon) {
	octets := "Content-Type: application/x-tar"
	for version, json := range map[string]bool{"1.0": false, "1.1": true} {
		a := v(t, d, version).want(200, "POST", "/images/create?fromSrc=-&repo=imported"+version, layer(t), octets)
		ct := a.header.Get("Content-Type")
		if (ct == "application/json") != json || strings.HasPrefix(a.body, "{") != json || !strings.Contains(a.body, "sha256:") {
			t.Errorf("%s: %s %q", version, ct, a.body)
		}
	}
	saved := v(t, d, "1.41").want(200, "GET", "/images/imported1.1/get", "").body
	for version, json := range map[string]bool{"1.22": false, "1.23": true} {
		a := v(t, d, version).want(200, "POST", "/images/load", saved, octets)
		if strings.HasPrefix(a.body, "{") != json || (a.body == "") == json {
			t.Errorf("load %s: %q", version, a.body)
		}
	}
	insertion(t, d)
}

// insertion serves a file inside the daemon's network namespace.
func insertion(t *testing.T, d *harness.Daemon) {
	d.OK("run", "-d", "--name", "files", "--network", "host", "busybox", "sh", "-c", "mkdir /www; echo inserted > /www/f; exec httpd -f -p 127.0.0.1:9191 -h /www")
	q := url.Values{"path": {"/opt/dir/f"}, "url": {"http://127.0.0.1:9191/f"}}.Encode()
	harness.Eventually(t, 10*time.Second, "the file is served", func() bool {
		return d.InNet("busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:9191/f").Out == "inserted\n"
	})
	for version, c := range map[string]struct{ json, detail bool }{"1.0": {false, false}, "1.1": {true, false}, "1.7": {true, false}, "1.8": {true, true}, "1.11": {true, true}} {
		a := v(t, d, version).want(200, "POST", "/images/busybox/insert?"+q, "")
		if strings.HasPrefix(a.body, "{") != c.json || strings.Contains(a.body, "progressDetail") != c.detail {
			t.Errorf("insert %s: %q", version, a.body)
		}
		i := strings.LastIndex(a.body, "sha256:")
		if i < 0 {
			t.Fatalf("insert %s: no image in %q", version, a.body)
		}
		if out := d.OK("run", "--rm", a.body[i:i+71], "cat", "/opt/dir/f"); out != "inserted" {
			t.Errorf("insert %s: the image has %q", version, out)
		}
	}
	if a := v(t, d, "1.12").do("POST", "/images/busybox/insert?"+q, ""); a.status != 404 {
		t.Errorf("insert 1.12: %d", a.status)
	}
	if a := v(t, d, "1.11").do("POST", "/images/nosuch/insert?"+q, ""); a.status != 404 {
		t.Errorf("insert into a missing image: %d %s", a.status, a.body)
	}
}

func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// past asks for the events until now.
func past(c client, since time.Time, filters string) []map[string]any {
	q := url.Values{"since": {stamp(since)}, "until": {stamp(time.Now())}}
	if filters != "" {
		q.Set("filters", filters)
	}
	a := c.want(200, "GET", "/events?"+q.Encode(), "")
	var out []map[string]any
	dec := json.NewDecoder(strings.NewReader(a.body))
	for dec.More() {
		var m map[string]any
		if err := dec.Decode(&m); err != nil {
			c.t.Fatalf("events: %v in %q", err, a.body)
		}
		out = append(out, m)
	}
	return out
}

func eventShapes(t *testing.T, d *harness.Daemon) {
	begin := time.Now()
	d.OK("run", "--name", "eventful", "busybox", "true")
	for version, c := range map[string]struct{ legacy, modern bool }{"1.21": {true, false}, "1.22": {true, true}, "1.51": {true, true}, "1.52": {false, true}} {
		list := past(v(t, d, version), begin, "")
		found := false
		for _, e := range list {
			if e["status"] == "start" || e["Action"] == "start" {
				_, legacy := e["status"]
				_, modern := e["Action"]
				_, from := e["from"]
				found = legacy == c.legacy && modern == c.modern && from == c.legacy
			}
		}
		if !found {
			t.Errorf("%s: %v", version, list)
		}
	}
	for version, want := range map[string]string{"1.51": "application/json", "1.52": "application/jsonl"} {
		if a := v(t, d, version).do("GET", "/events?since=1&until=2", ""); a.header.Get("Content-Type") != want {
			t.Errorf("%s: %v", version, a.header)
		}
	}
	// Forms of the stream are not negotiated before 1.52.
	seq := "Accept: application/json-seq"
	for version, want := range map[string]bool{"1.51": false, "1.52": true} {
		a := v(t, d, version).do("GET", "/events?since="+stamp(begin)+"&until="+stamp(time.Now()), "", seq)
		if strings.HasPrefix(a.body, "\x1e") != want {
			t.Errorf("%s: %.40q", version, a.body)
		}
	}
}

func eventKinds(t *testing.T, d *harness.Daemon) {
	begin := time.Now()
	d.OK("exec", "web", "true")
	d.OK("network", "create", "kinds")
	d.OK("container", "prune", "-f", "--filter", "label=none")
	harness.Eventually(t, 5*time.Second, "the exec's end is told", func() bool {
		return has(past(v(t, d, ""), begin, ""), "Action", "exec_die")
	})
	for version, c := range map[string]struct{ die, prune, network bool }{
		"1.21": {}, "1.22": {network: true}, "1.35": {network: true}, "1.36": {die: true, network: true}, "1.40": {die: true, network: true}, "1.41": {true, true, true},
	} {
		list := past(v(t, d, version), begin, "")
		if has(list, "Action", "exec_die") != c.die || has(list, "Action", "prune") != c.prune || has(list, "Type", "network") != c.network {
			t.Errorf("%s: %v", version, list)
		}
		if version == "1.21" && (has(list, "status", "exec_die") || len(list) == 0) {
			t.Errorf("%s: %v", version, list)
		}
	}
	d.OK("network", "rm", "kinds")
}

func has(list []map[string]any, key, value string) bool {
	for _, e := range list {
		if e[key] == value {
			return true
		}
	}
	return false
}

func statsShapes(t *testing.T, d *harness.Daemon) {
	for version, c := range map[string]struct{ key, not string }{"1.20": {"network", "networks"}, "1.21": {"networks", "network"}} {
		m := v(t, d, version).want(200, "GET", "/containers/web/stats?stream=0", "").object(t)
		if m[c.key] == nil || m[c.not] != nil {
			t.Errorf("%s: %v", version, m)
		}
	}
	// Before 1.19 there was no end: two samples come whatever was asked.
	s := v(t, d, "1.18").open("GET", "/containers/web/stats?stream=0", "")
	dec := json.NewDecoder(s.body)
	for range 2 {
		var m map[string]any
		if err := dec.Decode(&m); err != nil || m["precpu_stats"] != nil || m["cpu_stats"] == nil {
			t.Fatalf("1.18: %v %v", err, m)
		}
	}
}

func stateStatuses(t *testing.T, d *harness.Daemon) {
	d.OK("create", "--name", "idle", "busybox", "true")
	for _, c := range []struct {
		version, path string
		status        int
	}{
		{"1.12", "/containers/web/start", 204}, {"1.13", "/containers/web/start", 304},
		{"1.12", "/containers/idle/stop", 204}, {"1.13", "/containers/idle/stop", 304},
		{"1.19", "/containers/idle/kill", 204}, {"1.20", "/containers/idle/kill", 409},
		{"1.2", "/containers/web/restart?t=0", 204},
	} {
		if a := v(t, d, c.version).do("POST", c.path, ""); a.status != c.status {
			t.Errorf("%+v: %d %s", c, a.status, a.body)
		}
	}
	for version, contentType := range map[string]string{"1.23": "text/plain; charset=utf-8", "1.24": "application/json"} {
		a := v(t, d, version).do("GET", "/containers/nosuch/json", "")
		if a.status != 404 || a.header.Get("Content-Type") != contentType || !strings.Contains(a.body, "No such container: nosuch") {
			t.Errorf("%s: %d %v %q", version, a.status, a.header, a.body)
		}
	}
	v(t, d, "").want(200, "POST", "/images/create?fromSrc=-&repo=nocommand", layer(t), "Content-Type: application/x-tar")
	for version, status := range map[string]int{"1.23": 500, "1.24": 400} {
		a := v(t, d, version).do("POST", "/containers/create", `{"Image":"nocommand"}`)
		if a.status != status {
			t.Errorf("no command at %s: %d %s", version, a.status, a.body)
		}
	}
}

func startBody(t *testing.T, d *harness.Daemon) {
	dir := t.TempDir()
	body := `{"Binds":["` + dir + `:/data"],"PortBindings":{"80/tcp":[{"HostPort":"8124"}]},"Privileged":false,"RestartPolicy":{"Name":"always"},"Memory":33554432}`
	for version, c := range map[string]struct {
		status      int
		bound, port bool
		restart     string
	}{
		"1.2":  {200, false, false, "no"},
		"1.3":  {204, true, false, "no"},
		"1.6":  {204, true, true, "no"},
		"1.14": {204, true, true, "always"},
		"1.23": {204, true, true, "always"},
		"1.24": {400, false, false, "no"},
	} {
		cl := v(t, d, version)
		id := cl.want(201, "POST", "/containers/create", `{"Image":"busybox","Cmd":["sleep","1000"],"ExposedPorts":{"80/tcp":{}}}`).object(t)["Id"].(string)
		if a := cl.do("POST", "/containers/"+id+"/start", body); a.status != c.status {
			t.Errorf("%s: %d %s", version, a.status, a.body)
		}
		now := v(t, d, "").want(200, "GET", "/containers/"+id+"/json", "").object(t)
		hc := now["HostConfig"].(map[string]any)
		bound := len(now["Mounts"].([]any)) == 1
		ports, _ := json.Marshal(now["NetworkSettings"].(map[string]any)["Ports"])
		if bound != c.bound || strings.Contains(string(ports), "8124") != c.port || hc["RestartPolicy"].(map[string]any)["Name"] != c.restart {
			t.Errorf("%s: mounts %v, ports %s, %v", version, now["Mounts"], ports, hc["RestartPolicy"])
		}
		if c.status == 204 && hc["Memory"] != 33554432.0 {
			t.Errorf("%s: memory %v", version, hc["Memory"])
		}
		d.OK("rm", "-f", "-v", id)
	}
}

func inspections(t *testing.T, d *harness.Daemon) {
	for _, c := range []struct {
		version, path, key string
		there              bool
	}{
		{"1.7", "/containers/web/json", "HostConfig", false}, {"1.8", "/containers/web/json", "HostConfig", true},
		{"1.19", "/containers/web/json", "Volumes", true}, {"1.20", "/containers/web/json", "Volumes", false},
		{"1.19", "/containers/web/json", "Mounts", false}, {"1.20", "/containers/web/json", "Mounts", true},
		{"1.51", "/containers/web/json", "GraphDriver", true}, {"1.52", "/containers/web/json", "GraphDriver", false},
		{"1.20", "/containers/web/json?size=1", "SizeRw", false}, {"1.21", "/containers/web/json?size=1", "SizeRw", true},
		{"1.11", "/images/busybox/json", "container_config", true}, {"1.12", "/images/busybox/json", "ContainerConfig", true},
		{"1.44", "/images/busybox/json", "ContainerConfig", true}, {"1.45", "/images/busybox/json", "ContainerConfig", false},
		{"1.43", "/images/busybox/json", "VirtualSize", true}, {"1.44", "/images/busybox/json", "VirtualSize", false},
		{"1.22", "/images/busybox/json", "RootFS", false}, {"1.23", "/images/busybox/json", "RootFS", true},
		{"1.11", "/version", "ApiVersion", false}, {"1.12", "/version", "ApiVersion", true},
		{"1.24", "/version", "MinAPIVersion", false}, {"1.25", "/version", "MinAPIVersion", true},
		{"1.34", "/version", "Components", false}, {"1.35", "/version", "Components", true},
	} {
		_, there := v(t, d, c.version).want(200, "GET", c.path, "").object(t)[c.key]
		if there != c.there {
			t.Errorf("%+v: there %v", c, there)
		}
	}
	settings := func(version string) map[string]any {
		return v(t, d, version).want(200, "GET", "/containers/web/json", "").object(t)["NetworkSettings"].(map[string]any)
	}
	if ns := settings("1.20"); ns["Networks"] != nil || ns["IPAddress"] == "" || ns["IPAddress"] == nil {
		t.Errorf("1.20: %v", ns)
	}
	if ns := settings("1.21"); ns["Networks"] == nil || ns["IPAddress"] == nil {
		t.Errorf("1.21: %v", ns)
	}
	if ns := settings("1.52"); ns["IPAddress"] != nil {
		t.Errorf("1.52: %v", ns)
	}
}

func lists(t *testing.T, d *harness.Daemon) {
	row := func(version, path string) map[string]any {
		for _, r := range v(t, d, version).want(200, "GET", path, "").list(t) {
			if strings.Contains(fmt.Sprint(r["Command"], r["Repository"], r["RepoTags"]), "echo err") || strings.Contains(fmt.Sprint(r["Repository"], r["RepoTags"]), "busybox") {
				return r
			}
		}
		t.Fatalf("%s: no row", version)
		return nil
	}
	for _, path := range []string{"/containers/json", "/containers/ps"} {
		if p := row("1.4", path)["Ports"]; p != "127.0.0.1:8123->80/tcp" {
			t.Errorf("1.4: Ports %v", p)
		}
		if p, ok := row("1.5", path)["Ports"].([]any); !ok || len(p) != 1 {
			t.Errorf("1.5: Ports %v", p)
		}
	}
	if r := row("1.6", "/images/json"); r["Repository"] != "busybox" || r["Tag"] != "latest" || r["RepoTags"] != nil {
		t.Errorf("1.6: %v", r)
	}
	if r := row("1.7", "/images/json"); r["Repository"] != nil || r["RepoTags"] == nil {
		t.Errorf("1.7: %v", r)
	}
	top := v(t, d, "1.3").want(200, "GET", "/containers/web/top", "").list(t)
	// an exec of an earlier part may not have ended
	if !slices.ContainsFunc(top, func(row map[string]any) bool { return row["PID"] != nil && row["Cmd"] == "sleep" }) {
		t.Errorf("1.3: %v", top)
	}
	if m := v(t, d, "1.4").want(200, "GET", "/containers/web/top?ps_args=aux", "").object(t); m["Titles"] == nil {
		t.Errorf("1.4: %v", m)
	}
	if a := v(t, d, "1.6").want(200, "GET", "/images/viz", ""); !strings.HasPrefix(a.body, "digraph docker {\n") || !strings.Contains(a.body, `busybox:latest",shape=box`) {
		t.Errorf("viz: %s", a.body)
	}
	first := v(t, d, "1.24").want(200, "GET", "/containers/json?all=1&since=web", "").list(t)
	if len(first) == 0 || has2(first, "web") {
		t.Errorf("since query: %v", first)
	}
}

func has2(rows []map[string]any, name string) bool {
	for _, r := range rows {
		if strings.Contains(fmt.Sprint(r["Names"]), "/"+name) {
			return true
		}
	}
	return false
}

func copies(t *testing.T, d *harness.Daemon) {
	for version, c := range map[string]struct {
		status      int
		contentType string
	}{"1.3": {404, ""}, "1.4": {200, "application/octet-stream"}, "1.14": {200, "application/octet-stream"}, "1.15": {200, "application/x-tar"}, "1.23": {200, "application/x-tar"}, "1.24": {404, ""}} {
		a := v(t, d, version).do("POST", "/containers/web/copy", `{"Resource":"/bin/sh"}`)
		if a.status != c.status || (c.contentType != "" && a.header.Get("Content-Type") != c.contentType) {
			t.Errorf("%s: %d %v", version, a.status, a.header)
		}
	}
}

func execs(t *testing.T, d *harness.Daemon) {
	id := v(t, d, "1.21").want(201, "POST", "/containers/web/exec", `{"AttachStdout":true,"Cmd":["sleep","50"]}`).object(t)["Id"].(string)
	v(t, d, "1.21").want(200, "POST", "/exec/"+id+"/start", `{"Detach":true}`, "Content-Type: text/plain")
	if a := v(t, d, "1.22").do("POST", "/exec/"+id+"/start", `{"Detach":true}`, "Content-Type: text/plain"); a.status < 400 {
		t.Errorf("1.22 takes any content type: %d", a.status)
	}
	old := v(t, d, "1.21").want(200, "GET", "/exec/"+id+"/json", "").object(t)
	c, _ := old["Container"].(map[string]any)
	if old["ContainerID"] != nil || c["ID"] == nil || c["NetworkSettings"] == nil || c["State"] == nil {
		t.Errorf("1.21: %v", old)
	}
	oldest := v(t, d, "1.16").want(200, "GET", "/exec/"+id+"/json", "").object(t)
	if c, _ := oldest["Container"].(map[string]any); c["Mounts"] != nil || c["Volumes"] == nil {
		t.Errorf("1.16: %v", oldest)
	}
	now := v(t, d, "1.22").want(200, "GET", "/exec/"+id+"/json", "").object(t)
	if now["ContainerID"] == nil || now["Container"] != nil || now["Pid"] != nil {
		t.Errorf("1.22: %v", now)
	}
}

func infos(t *testing.T, d *harness.Daemon) {
	for version, want := range map[string]any{"1.18": 1.0, "1.19": true} {
		if got := v(t, d, version).want(200, "GET", "/info", "").object(t)["MemoryLimit"]; got != want {
			t.Errorf("%s: MemoryLimit %v", version, got)
		}
	}
	for version, keys := range map[string][2]string{"1.51": {"Images", "ImageUsage"}, "1.53": {"ImageUsage", "Images"}} {
		m := v(t, d, version).want(200, "GET", "/system/df", "").object(t)
		if _, has := m[keys[0]]; !has || m[keys[1]] != nil {
			t.Errorf("%s: %v", version, m)
		}
	}
	m := v(t, d, "1.52").want(200, "GET", "/system/df", "").object(t)
	if m["Images"] == nil || m["ImageUsage"] == nil {
		t.Errorf("1.52: %v", m)
	}
}

func negotiation(t *testing.T, d *harness.Daemon) {
	for _, c := range []struct {
		path   string
		status int
	}{{"/v1.99/info", 200}, {"/v9.9/info", 200}, {"/v0.9/info", 400}, {"/v1.x/info", 400}, {"/v1.2.3/info", 400}, {"/v1.41x/info", 400}, {"/info", 200}} {
		a := v(t, d, "").do("GET", c.path, "")
		if a.status != c.status || a.header.Get("Api-Version") != newest {
			t.Errorf("%s: %d %v %s", c.path, a.status, a.header, a.body)
		}
	}
	for _, version := range []string{"", "1.0", "1.24", "1.39", newest} {
		a := v(t, d, version).do("HEAD", "/_ping", "", "Connection: close")
		if a.status != 200 || a.header.Get("Api-Version") != newest || a.header.Get("Docker-Experimental") == "" || a.body != "" {
			t.Errorf("%s: %d %v", version, a.status, a.header)
		}
	}
	m := v(t, d, "").want(200, "GET", "/version", "").object(t)
	if m["ApiVersion"] != newest || m["MinAPIVersion"] != "1.0" {
		t.Errorf("version: %v %v", m["ApiVersion"], m["MinAPIVersion"])
	}
	for version, status := range map[string]int{"1.1": 404, "1.2": 200, newest: 200} {
		if a := v(t, d, version).do(http.MethodOptions, "/images/json", ""); a.status != status || (status == 200 && a.body != "") {
			t.Errorf("OPTIONS %s: %d %q", version, a.status, a.body)
		}
	}
}

func credentials(t *testing.T, d *harness.Daemon) {
	m := v(t, d, "1.0").want(200, "GET", "/auth", "").object(t)
	if m["username"] != "" || m["email"] != "" {
		t.Errorf("GET /auth: %v", m)
	}
	if a := v(t, d, "1.2").do("GET", "/auth", ""); a.status != 404 {
		t.Errorf("GET /auth at 1.2: %d", a.status)
	}
}

func creates(t *testing.T, d *harness.Daemon) {
	for _, c := range []struct {
		version, body, path string
		want                any
	}{
		{"1.14", `{"HostConfig":{"Privileged":true}}`, "HostConfig.Privileged", false},
		{"1.15", `{"HostConfig":{"Privileged":true}}`, "HostConfig.Privileged", true},
		{"1.5", `{"Privileged":true}`, "HostConfig.Privileged", true},
		{"1.6", `{"Privileged":true}`, "HostConfig.Privileged", false},
		{"1.19", `{"Memory":33554432}`, "HostConfig.Memory", 33554432.0},
		{"1.18", `{"CpuShares":1}`, "HostConfig.CpuShares", 2.0},
		{"1.19", `{"HostConfig":{"CpuShares":3}}`, "HostConfig.CpuShares", 3.0},
		{"1.39", `{}`, "HostConfig.IpcMode", "shareable"},
		{"1.40", `{}`, "HostConfig.IpcMode", "private"},
		{"1.24", `{"HostConfig":{"AutoRemove":true}}`, "HostConfig.AutoRemove", false},
		{"1.25", `{"HostConfig":{"AutoRemove":true}}`, "HostConfig.AutoRemove", true},
		{"1.22", `{"Hostname":"h","Domainname":"example.org"}`, "Config.Hostname", "h.example.org"},
		{"1.23", `{"Hostname":"h","Domainname":"example.org"}`, "Config.Hostname", "h"},
		{"1.5", `{"PortSpecs":["8125:80"]}`, "HostConfig.PortBindings", map[string]any{"80/tcp": []any{map[string]any{"HostIp": "", "HostPort": "8125"}}}},
		{"1.24", `{"Entrypoint":"/bin/sh"}`, "Config.Entrypoint", []any{"/bin/sh"}},
	} {
		body := strings.Replace(c.body, "{", `{"Image":"busybox","Cmd":["true"],`, 1)
		body = strings.Replace(body, ",}", "}", 1)
		id := v(t, d, c.version).want(201, "POST", "/containers/create", body).object(t)["Id"].(string)
		var got any = v(t, d, "").want(200, "GET", "/containers/"+id+"/json", "").json(t)
		for _, k := range strings.Split(c.path, ".") {
			got = got.(map[string]any)[k]
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s %s: %s is %v, want %v", c.version, c.body, c.path, got, c.want)
		}
		d.OK("rm", "-f", id)
	}
	for _, c := range []struct {
		version, body string
		status        int
	}{
		{"1.43", `{"NetworkingConfig":{"EndpointsConfig":{"bridge":{},"x":{}}}}`, 400},
		{"1.44", `{"HostConfig":{"Mounts":[{"Type":"volume","Source":"s","Target":"/v","VolumeOptions":{"Subpath":"x"}}]}}`, 400},
		{"1.47", `{"HostConfig":{"Mounts":[{"Type":"image","Source":"busybox","Target":"/i"}]}}`, 400},
	} {
		body := strings.Replace(c.body, "{", `{"Image":"busybox","Cmd":["true"],`, 1)
		if a := v(t, d, c.version).do("POST", "/containers/create", body); a.status != c.status {
			t.Errorf("%s %s: %d %s", c.version, c.body, a.status, a.body)
		}
	}
}

func removedPaths(t *testing.T, d *harness.Daemon) {
	for _, c := range []struct {
		version, method, path string
		status                int
	}{
		{"1.7", "GET", "/images/viz", 404}, {"1.21", "GET", "/containers/ps", 404}, {"1.5", "POST", "/images/getCache", 404},
		{"1.4", "POST", "/images/getCache", 404}, {"1.20", "GET", "/networks", 404}, {"1.21", "GET", "/networks/", 200},
		{"1.20", "GET", "/volumes", 404}, {"1.24", "GET", "/system/df", 404}, {"1.16", "GET", "/containers/web/stats", 404},
		{"1.11", "POST", "/containers/web/pause", 404}, {"1.54", "GET", "/images/busybox/attestations", 404}, {"1.55", "GET", "/images/busybox/attestations", 200},
	} {
		body := ""
		if strings.HasSuffix(c.path, "getCache") {
			body = `{"Id":"busybox","Cmd":["nothing"]}`
		}
		if a := v(t, d, c.version).do(c.method, c.path, body); a.status != c.status {
			t.Errorf("%+v: %d %s", c, a.status, a.body)
		}
	}
}
