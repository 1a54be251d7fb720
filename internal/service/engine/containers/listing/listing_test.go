package listing

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"

	core "longshore/internal/core/container"
	"longshore/internal/core/fault"
)

var epoch = time.Unix(1_800_000_000, 0).UTC()

func sample() []*core.Record {
	rec := func(i int, name string, phase core.Phase) *core.Record {
		return &core.Record{
			ID: fmt.Sprintf("%d%s", i, strings.Repeat("a", 63)), Name: name, Created: epoch.Add(time.Duration(i) * time.Minute),
			Config: &container.Config{Labels: map[string]string{}}, HostConfig: &container.HostConfig{},
			Image: core.Image{ID: digest.FromString("base")}, State: core.State{Phase: phase},
		}
	}
	web, db, old := rec(1, "web", core.Running), rec(2, "db", core.Paused), rec(3, "old", core.Exited)
	web.Config.Labels["tier"] = "front"
	web.Config.ExposedPorts = network.PortSet{network.MustParsePort("80/tcp"): {}, network.MustParsePort("9/udp"): {}}
	web.Run = &core.Run{Ports: network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("0.0.0.0"), HostPort: "8080"}}}}
	web.Networks = map[string]*network.EndpointSettings{"blue": {NetworkID: "abcdef"}}
	web.State.StartedAt = epoch
	web.State.Health = &container.Health{Status: container.Healthy}
	db.Mounts = []core.Mount{{MountPoint: container.MountPoint{Name: "data", Destination: "/var/lib"}}}
	db.HostConfig.Annotations = map[string]string{"note": "x"}
	old.State.StartedAt, old.State.FinishedAt, old.State.ExitCode = epoch, epoch.Add(time.Second), 3
	old.Image.ID = digest.FromString("child")
	return []*core.Record{web, db, old}
}

func shown(recs []*core.Record) []*Shown {
	list := make([]*Shown, len(recs))
	for i, r := range recs {
		list[i] = &Shown{Record: r}
	}
	return list
}

func lookups(recs []*core.Record) Lookups {
	layer := digest.FromString("layer")
	return Lookups{
		Container: func(ref string) (*core.Record, error) {
			for _, r := range recs {
				if r.Name == ref {
					return r, nil
				}
			}
			return nil, fault.NotFound("No such container: %s", ref)
		},
		Image: func(ref string) (Image, error) {
			switch ref {
			case "base", digest.FromString("base").String():
				return Image{ID: digest.FromString("base"), DiffIDs: []digest.Digest{layer}}, nil
			case "child", digest.FromString("child").String():
				return Image{ID: digest.FromString("child"), DiffIDs: []digest.Digest{layer, layer}}, nil
			}
			return Image{}, fault.NotFound("No such image: %s", ref)
		},
	}
}

func TestFilters(t *testing.T) {
	recs := sample()
	for _, c := range []struct {
		filters string
		all     bool
		limit   int
		want    string
	}{
		{"", false, 0, "db web"},
		{"", true, 0, "old db web"},
		{"", false, 1, "old"},
		{"status=exited", false, 0, "old"},
		{"status=paused,status=running", false, 0, "db web"},
		{"status=odd", false, 0, "error: invalid filter 'status=odd'"},
		{"exited=3", false, 0, "old"},
		{"exited=x", false, 0, "error: invalid filter 'exited=x'"},
		{"health=healthy", false, 0, "web"},
		{"health=none", true, 0, "old db"},
		{"before=old", false, 0, "db web"},
		{"since=web", false, 0, "old db"},
		{"since=gone", false, 0, "error: No such container: gone"},
		{"ancestor=base", true, 0, "old db web"},
		{"ancestor=child", true, 0, "old"},
		{"ancestor=gone", true, 0, ""},
		{"publish=8080", false, 0, "web"},
		{"publish=8000-9000/tcp", false, 0, "web"},
		{"publish=8080/udp", false, 0, ""},
		{"expose=9/udp", false, 0, "web"},
		{"expose=x", false, 0, "error: invalid filter 'expose=x': invalid start port 'x': invalid syntax"},
		{"name=^/we", false, 0, "web"},
		{"name=b", false, 0, "db web"},
		{"name=(", false, 0, "error: invalid filter 'name=(': error parsing regexp: missing closing ): `(`"},
		{"id=1a", false, 0, "web"},
		{"label=tier", false, 0, "web"},
		{"label=tier=back", false, 0, ""},
		{"annotation=note=x", false, 0, "db"},
		{"network=blue", false, 0, "web"},
		{"network=abc", false, 0, "web"},
		{"volume=data", false, 0, "db"},
		{"volume=/var/lib", false, 0, "db"},
		{"is-task=false", false, 0, "db web"},
		{"is-task=true", false, 0, ""},
		{"isolation=default", false, 0, "db web"},
		{"nonsense=1", false, 0, "error: invalid filter 'nonsense'"},
	} {
		f := map[string][]string{}
		for _, p := range strings.FieldsFunc(c.filters, func(r rune) bool { return r == ',' }) {
			k, v, _ := strings.Cut(p, "=")
			f[k] = append(f[k], v)
		}
		got := ""
		if q, err := Parse(f, lookups(recs)); err != nil {
			got = "error: " + err.Error()
		} else {
			var names []string
			for _, r := range q.Select(shown(recs), c.all, c.limit) {
				names = append(names, r.Record.Name)
			}
			got = strings.Join(names, " ")
		}
		if got != c.want {
			t.Errorf("%s (all %v, limit %d): got %q, want %q", c.filters, c.all, c.limit, got, c.want)
		}
	}
}

func TestPrune(t *testing.T) {
	recs := sample()
	now := epoch.Add(10 * time.Minute)
	for f, want := range map[string]string{
		`{}`:                         "web db old",
		`{"until":["8m"]}`:           "web db",
		`{"until":["1800000060"]}`:   "web",
		`{"label":["tier=front"]}`:   "web",
		`{"label!":["tier"]}`:        "db old",
		`{"until":["yesterday"]}`:    `error: invalid until value "yesterday": failed to parse value as time or duration`,
		`{"status":["exited"]}`:      "error: invalid filter 'status'",
		`{"until":["2027-01-15"]}`:   "",
		`{"until":["1m","2m"]}`:      "error: more than one until filter specified",
		`{"until":["2030-01-01T1"]}`: `error: invalid until value "2030-01-01T1": failed to parse value as time or duration`,
	} {
		filters := map[string][]string{}
		if err := json.Unmarshal([]byte(f), &filters); err != nil {
			t.Fatal(err)
		}
		got := ""
		if match, err := Prune(filters, now); err != nil {
			got = "error: " + err.Error()
		} else {
			var names []string
			for _, r := range recs {
				if match(r) {
					names = append(names, r.Name)
				}
			}
			got = strings.Join(names, " ")
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", f, got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	rec := sample()[0]
	rec.Config.Entrypoint, rec.Config.Cmd = []string{"sh"}, []string{"-c", "echo a b"}
	s := (&Item{Shown: &Shown{Record: rec}, Status: rec.State.Sentence(epoch.Add(time.Hour))}).Summary()
	if s.Command != "sh -c 'echo a b'" || s.Status != "Up About an hour (healthy)" || s.State != "running" || s.Names[0] != "/web" {
		t.Errorf("got %+v", s)
	}
	ports, _ := json.Marshal(s.Ports)
	want := `[{"IP":"","PrivatePort":9,"Type":"udp"},{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}]`
	if string(ports) != want {
		t.Errorf("ports %s\nwant  %s", ports, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("name", "^a")
	f.Add("until", "1h")
	f.Add("publish", "1-2/udp")
	recs := sample()
	f.Fuzz(func(t *testing.T, k, v string) {
		if q, err := Parse(map[string][]string{k: {v}}, lookups(recs)); err == nil {
			q.Select(shown(recs), true, 0)
		}
		if m, err := Prune(map[string][]string{k: {v}}, epoch); err == nil {
			m(recs[0])
		}
	})
}
