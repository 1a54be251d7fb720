package version

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"longshore/internal/base/jsontree"
	"longshore/internal/core/fault"
	"longshore/internal/server/route"
)

// field is a setting of a create request; inspect shows it in Config or HostConfig under the same name.
type field struct {
	path         string // in the request, dots between members
	since, until string // versions that knew it there; until "" is the newest
	value        string // JSON
}

var fields = []field{
	{path: "User", since: "1.0", value: `"33"`},
	{path: "Tty", since: "1.0", value: `true`},
	{path: "OpenStdin", since: "1.0", value: `true`},
	{path: "StdinOnce", since: "1.0", value: `true`},
	{path: "Env", since: "1.0", value: `["A=b"]`},
	{path: "Cmd", since: "1.0", value: `["date"]`},
	{path: "Image", since: "1.0", value: `"busybox"`},
	{path: "Volumes", since: "1.0", value: `{"/v":{}}`},
	{path: "Memory", since: "1.0", until: "1.19", value: `4194304`},
	{path: "MemorySwap", since: "1.0", until: "1.19", value: `8388608`},
	{path: "Dns", since: "1.0", until: "1.9", value: `["8.8.8.8"]`},
	{path: "VolumesFrom", since: "1.0", until: "1.9", value: `"a,b:ro"`},
	{path: "WorkingDir", since: "1.4", value: `"/w"`},
	{path: "PortSpecs", since: "1.0", until: "1.5", value: `["22","53/udp"]`},
	{path: "CpuShares", since: "1.8", until: "1.19", value: `512`},
	{path: "ExposedPorts", since: "1.6", value: `{"22/tcp":{}}`},
	{path: "Entrypoint", since: "1.0", value: `["sh"]`},
	{path: "Hostname", since: "1.0", value: `"h"`},
	{path: "Domainname", since: "1.12", value: `"d"`},
	{path: "NetworkDisabled", since: "1.12", value: `true`},
	{path: "Cpuset", since: "1.12", until: "1.17", value: `"0,1"`},
	{path: "Labels", since: "1.17", value: `{"a":"b"}`},
	{path: "StopSignal", since: "1.21", value: `"SIGINT"`},
	{path: "VolumeDriver", since: "1.16", until: "1.20", value: `"local"`},
	{path: "Healthcheck", since: "1.24", value: `{"Test":["CMD","true"]}`},
	{path: "StopTimeout", since: "1.25", value: `7`},
	{path: "Healthcheck.StartPeriod", since: "1.29", value: `5`},
	{path: "Healthcheck.StartInterval", since: "1.44", value: `5`},
	{path: "HostConfig.Binds", since: "1.15", value: `["/a:/b"]`},
	{path: "HostConfig.Privileged", since: "1.15", value: `true`},
	{path: "HostConfig.CapAdd", since: "1.15", value: `["ALL"]`},
	{path: "HostConfig.NetworkMode", since: "1.15", value: `"host"`},
	{path: "HostConfig.RestartPolicy", since: "1.15", value: `{"Name":"always","MaximumRetryCount":0}`},
	{path: "HostConfig.ReadonlyRootfs", since: "1.17", value: `true`},
	{path: "HostConfig.CgroupParent", since: "1.18", value: `"p"`},
	{path: "HostConfig.PidMode", since: "1.18", value: `"host"`},
	{path: "HostConfig.Ulimits", since: "1.18", value: `[{"Name":"nofile","Hard":2,"Soft":1}]`},
	{path: "HostConfig.LogConfig", since: "1.18", value: `{"Type":"none","Config":{}}`},
	{path: "HostConfig.CpuPeriod", since: "1.19", value: `50000`},
	{path: "HostConfig.CpuQuota", since: "1.19", value: `25000`},
	{path: "HostConfig.BlkioWeight", since: "1.19", value: `300`},
	{path: "HostConfig.CpusetMems", since: "1.19", value: `"0"`},
	{path: "HostConfig.OomKillDisable", since: "1.19", value: `true`},
	{path: "HostConfig.GroupAdd", since: "1.20", value: `["1"]`},
	{path: "HostConfig.MemorySwappiness", since: "1.20", value: `10`},
	{path: "HostConfig.DnsOptions", since: "1.21", value: `["x"]`},
	{path: "HostConfig.OomScoreAdj", since: "1.21", value: `5`},
	{path: "HostConfig.MemoryReservation", since: "1.21", value: `4194304`},
	{path: "HostConfig.VolumeDriver", since: "1.21", value: `"local"`},
	{path: "HostConfig.ShmSize", since: "1.22", value: `67108864`},
	{path: "HostConfig.Tmpfs", since: "1.22", value: `{"/t":""}`},
	{path: "HostConfig.BlkioDeviceReadBps", since: "1.22", value: `[{"Path":"/dev/a","Rate":1}]`},
	{path: "HostConfig.PidsLimit", since: "1.23", value: `5`},
	{path: "HostConfig.UsernsMode", since: "1.23", value: `"host"`},
	{path: "HostConfig.Sysctls", since: "1.24", value: `{"a":"b"}`},
	{path: "HostConfig.StorageOpt", since: "1.24", value: `{"size":"1g"}`},
	{path: "HostConfig.AutoRemove", since: "1.25", value: `true`},
	{path: "HostConfig.NanoCpus", since: "1.25", value: `5`},
	{path: "HostConfig.Init", since: "1.25", value: `true`},
	{path: "HostConfig.DeviceCgroupRules", since: "1.28", value: `["c 1:3 mr"]`},
	{path: "HostConfig.MaskedPaths", since: "1.38", value: `["/x"]`},
	{path: "HostConfig.DeviceRequests", since: "1.40", value: `[{"Count":1}]`},
	{path: "HostConfig.CgroupnsMode", since: "1.41", value: `"private"`},
	{path: "HostConfig.Annotations", since: "1.43", value: `{"a":"b"}`},
}

// readAnyway are settings that daemons took before their versions' documents named them.
var readAnyway = []string{"Domainname", "Cpuset", "NetworkDisabled", "ExposedPorts", "StopTimeout", "Healthcheck.StartPeriod", "HostConfig.CgroupnsMode", "VolumeDriver"}

// TestKnownFieldsSurvive is the law of the ladder: what a version's client says at create it sees again in inspect.
func TestKnownFieldsSurvive(t *testing.T) {
	l := newLadder(t)
	for minor := range 56 {
		version := route.Version(1000 + minor)
		for _, f := range fields {
			if !version.In(route.MustVersion(f.since), untilOf(f)) {
				continue
			}
			want := decode(t, f.value)
			doc := inspectOf(t, l, version, f)
			got := at(doc, "Config."+f.path)
			if strings.HasPrefix(f.path, "HostConfig.") {
				got = at(doc, f.path)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s at %s: sent %v, sees %v", f.path, version, want, got)
			}
		}
	}
}

// TestUnknownFieldsAreIgnored is its counterpart: what came later does not reach the handler.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	l := newLadder(t)
	for minor := range 56 {
		version := route.Version(1000 + minor)
		for _, f := range fields {
			known := version >= route.MustVersion(f.since)
			for _, path := range readAnyway {
				known = known || path == f.path
			}
			if known {
				continue
			}
			body, _, err := lift(t, l, create, version.String(), "", nest(f.path, f.value))
			if err != nil {
				t.Fatal(err)
			}
			if got := at(body, f.path); got != nil && got != "shareable" {
				t.Errorf("%s at %s reaches the handler: %v", f.path, version, got)
			}
		}
	}
}

func untilOf(f field) route.Version {
	if f.until == "" {
		return 0
	}
	return route.MustVersion(f.until)
}

func decode(t *testing.T, doc string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// nest makes {"a":{"b":value}} of a.b.
func nest(path, value string) string {
	parts := strings.Split(path, ".")
	return `{"` + strings.Join(parts, `":{"`) + `":` + value + strings.Repeat("}", len(parts))
}

func at(doc any, path string) any {
	for _, p := range strings.Split(path, ".") {
		m, _ := doc.(map[string]any)
		doc = m[p]
	}
	return doc
}

// inspectOf sends a request up, answers what it asked for, and takes the answer down.
func inspectOf(t *testing.T, l *Ladder, version route.Version, f field) any {
	t.Helper()
	r := request(http.MethodPost, "/x", nest(f.path, f.value))
	if step, _ := l.Step(create, version); step != nil {
		if err := step.Lift(r); err != nil {
			t.Fatal(err)
		}
	}
	sent, err := io.ReadAll(r.Payload())
	if err != nil {
		t.Fatal(err)
	}
	body, err := jsontree.Parse(sent)
	if err != nil {
		t.Fatal(err)
	}
	host := body.Ensure("HostConfig")
	body.Delete("HostConfig", "NetworkingConfig")
	answer, err := jsontree.Of(map[string]any{"Id": "c0ffee", "Config": body, "HostConfig": host, "NetworkSettings": struct{}{}, "State": struct{}{}})
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, lower(t, l, inspect, version.String(), "", string(answer.AppendTo(nil))))
}

// TestNewestCostsNothing: the ladder allocates nothing for clients of the newest version.
func TestNewestCostsNothing(t *testing.T) {
	l := newLadder(t)
	newest := route.MustVersion("1.55")
	if n := testing.AllocsPerRun(100, func() {
		if step, _ := l.Step("GET /images/{name...}/json", newest); step != nil {
			t.Fatal("the newest version has a step")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLateErrors: an error that a stream meets before its first byte is told as the version told it.
func TestLateErrors(t *testing.T) {
	l := newLadder(t)
	step, _ := l.Step(killRoute, route.MustVersion("1.19"))
	refused := fault.Conflict("is not running")
	r := request(http.MethodPost, "/x", "")
	for name, resp := range map[string]route.Response{
		"lines":  route.Lines{Run: func(context.Context, func(any) error) error { return refused }},
		"raw":    route.Raw{Run: func(context.Context, io.Writer) error { return refused }},
		"hijack": route.Hijack{Prepare: func(context.Context) error { return refused }},
	} {
		lowered, err := step.Lower(r, resp)
		if err != nil {
			t.Fatal(err)
		}
		switch v := lowered.(type) {
		case route.Lines:
			err = v.Run(t.Context(), nil)
		case route.Raw:
			err = v.Run(t.Context(), io.Discard)
		case route.Hijack:
			err = v.Prepare(t.Context())
		}
		if err != nil {
			t.Errorf("%s: %v, want no error as before 1.20", name, err)
		}
	}
	begun := route.Raw{Run: func(_ context.Context, w io.Writer) error {
		_, _ = io.WriteString(w, "x")
		return refused
	}}
	lowered, err := step.Lower(r, begun)
	if err != nil {
		t.Fatal(err)
	}
	if err := lowered.(route.Raw).Run(t.Context(), io.Discard); !errors.Is(err, refused) {
		t.Errorf("after the first byte: %v", err)
	}
}

// TestChangesOfListsRunInOrder: a rung's list change sees items as the rungs above left them.
func TestChangesOfListsRunInOrder(t *testing.T) {
	l := newLadder(t)
	got := lower(t, l, imageList, "1.6", "", `[{"Id":"sha256:a","RepoTags":["r:t"],"RepoDigests":[],"Created":1,"Size":2},{"Id":"sha256:b","RepoTags":[],"RepoDigests":[],"Created":1,"Size":2}]`)
	want := `[{"Repository":"r","Tag":"t","Id":"sha256:a","Created":1,"Size":2,"VirtualSize":2},` +
		`{"Repository":"<none>","Tag":"<none>","Id":"sha256:b","Created":1,"Size":2,"VirtualSize":2}]`
	var a, b any
	if json.Unmarshal([]byte(got), &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestPlainText(t *testing.T) {
	l := newLadder(t)
	step, _ := l.Step(imagePull, route.MustVersion("1.0"))
	resp, err := step.Lower(request(http.MethodPost, "/x", ""), route.Lines{ErrorLine: true, Run: func(_ context.Context, emit func(any) error) error {
		for _, line := range []string{`{"status":"Pulling"}`, `{"id":"a","status":"Downloading","progressDetail":{"current":50,"total":100}}`} {
			if err := emit(json.RawMessage(line)); err != nil {
				return err
			}
		}
		return fmt.Errorf("broken")
	}})
	if err != nil {
		t.Fatal(err)
	}
	raw, ok := resp.(route.Raw)
	if !ok {
		t.Fatalf("%T", resp)
	}
	var b strings.Builder
	_ = raw.Run(t.Context(), &b)
	if want := "Pulling\r\na: Downloading 50B/100B (50%)\rError: broken\r\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}
