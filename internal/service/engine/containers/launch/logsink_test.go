package launch

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	core "longshore/internal/core/container"
)

func TestSink(t *testing.T) {
	for _, c := range []struct{ driver, opts, want string }{
		{"json-file", "", "json-file 0 1 false"},
		{"json-file", "max-size=10m max-file=3 compress=true", "json-file 10000000 3 true"},
		{"json-file", "max-size=-1 max-file=3", "json-file 0 1 false"},
		{"local", "", "local 20971520 5 true"},
		{"local", "max-size=1k max-file=1 compress=false", "local 1000 1 false"},
		{"none", "", "none 0 1 false"},
		{"json-file", "max-size=x", `error: invalid value for max-size: "x"`},
		{"json-file", "max-file=0", "error: max-file cannot be less than 1"},
		{"json-file", "compress=true", "error: compress cannot be true when max-file is less than 2 or max-size is not set"},
		{"json-file", "bogus=1", "error: unknown log opt 'bogus' for json-file log driver"},
		{"json-file", "mode=odd", "error: logger: logging mode not supported: odd"},
		{"json-file", "mode=non-blocking max-buffer-size=4m", "json-file 0 1 false"},
		{"local", "tag=x", "error: unknown log opt 'tag' for local log driver"},
		{"syslogd", "", "error: logger: no log driver named 'syslogd' is registered"},
	} {
		opts := map[string]string{}
		for _, o := range strings.Fields(c.opts) {
			k, v, _ := strings.Cut(o, "=")
			opts[k] = v
		}
		s, err := (&Launcher{}).sink(container.LogConfig{Type: c.driver, Config: opts})
		got := fmt.Sprintf("%s %d %d %v", s.Driver, s.MaxSize, s.MaxFiles, s.Compress)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.driver, c.opts, got, c.want)
		}
	}
}

func TestLogAttrs(t *testing.T) {
	rec := &core.Record{
		ID: strings.Repeat("ab", 32), Name: "web", Image: core.Image{ID: digest.FromString("x")},
		Config: &container.Config{Image: "busybox", Cmd: []string{"true"}, Env: []string{"A=1", "AB=2", "C=3"}, Labels: map[string]string{"l": "v", "m": "w"}},
	}
	got, err := logAttrs(rec, map[string]string{"labels": "l,none", "env-regex": "^A", "tag": "{{.Name}}/{{.ID}}"})
	if err != nil || fmt.Sprint(got) != "map[A:1 AB:2 l:v tag:web/abababababab]" {
		t.Errorf("%v %v", got, err)
	}
	if got, err := logAttrs(rec, nil); got != nil || err != nil {
		t.Errorf("%v %v", got, err)
	}
	if _, err := logAttrs(rec, map[string]string{"tag": "{{.Nope}}"}); err == nil {
		t.Error("an unknown field of a tag is no error")
	}
}

func TestTags(t *testing.T) {
	rec := &core.Record{
		ID: strings.Repeat("ab", 32), Name: "web", Image: core.Image{ID: digest.FromString("x")},
		Config:     &container.Config{Image: "busybox", Cmd: []string{"echo", "a", "b"}, Env: []string{"A=1"}, Labels: map[string]string{"team": "blue"}},
		HostConfig: &container.HostConfig{LogConfig: container.LogConfig{Config: map[string]string{"labels": "team", "env": "A"}}},
	}
	for tag, want := range map[string]string{
		"docker.{{.Name}}": "docker.web", "{{.FullID}}": rec.ID, "{{.ContainerID}}": rec.ID, "{{.ImageName}}|{{.ContainerImageName}}": "busybox|busybox",
		"{{.ImageFullID}}": digest.FromString("x").String(), "{{.DaemonName}}": "docker", "{{.Command}}": "echo a b", "{{.ContainerName}}": "/web",
		"{{index .ContainerLabels \"team\"}}": "blue", "{{(.ExtraAttributes nil).team}}-{{(.ExtraAttributes nil).A}}": "blue-1", "{{range .ContainerEnv}}{{.}}{{end}}": "A=1",
		"{{upper .Name}} {{lower \"A\"}} {{title \"a big word\"}}": "WEB a A Big Word", "{{truncate .FullID 6}}{{truncate \"x\" 6}}": "abababx",
		"{{pad .Name 1 2}}{{pad \"\" 1 2}}.": " web  .", "{{json .ContainerLabels}}": `{"team":"blue"}`, "{{join (split \"a.b\" \".\") \"/\"}}": "a/b",
		"{{.ContainerEntrypoint}} {{join .ContainerArgs \"+\"}}": "echo a+b",
	} {
		if got, err := renderTag(rec, tag); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", tag, got, err, want)
		}
	}
}

func TestDefaultsOfTheDaemon(t *testing.T) {
	l := New(Config{LogDriver: "json-file", LogOpts: map[string]string{"max-size": "1m"}}, Deps{})
	c, err := l.SettleLog(container.LogConfig{Config: map[string]string{"max-file": "2"}})
	if err != nil || c.Type != "json-file" || fmt.Sprint(c.Config) != "map[max-file:2 max-size:1m]" {
		t.Errorf("%+v %v", c, err)
	}
	if _, err := l.SettleLog(container.LogConfig{Config: map[string]string{"max-buffer-size": "2m"}}); err == nil || err.Error() != "logger: max-buffer-size option is only supported with 'mode=non-blocking'" {
		t.Error(err)
	}
	if _, err := l.SettleLog(container.LogConfig{Config: map[string]string{"max-buffer-size": "2m", "mode": "non-blocking"}}); err != nil {
		t.Error(err)
	}
	c, err = l.SettleLog(container.LogConfig{Type: "local"})
	if err != nil || len(c.Config) != 0 {
		t.Errorf("the daemon's options went to another driver: %+v %v", c, err)
	}
}
