package volumes_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"longshore/internal/core/volume"
	"longshore/internal/driver/bolt"
	"longshore/internal/driver/journal"
	"longshore/internal/server/engineapi"
	"longshore/internal/server/engineapi/volumes"
	service "longshore/internal/service/engine/volumes"
)

func serve(t *testing.T) (*service.Service, string) {
	t.Helper()
	root := t.TempDir()
	store, err := bolt.Open(filepath.Join(root, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	j, err := journal.Open(filepath.Join(root, "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	svc, err := service.New(root, store, j)
	if err != nil {
		t.Fatal(err)
	}
	api, err := engineapi.New(engineapi.Config{Newest: "1.55", Oldest: "1.0"}, volumes.Routes(svc), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	return svc, s.URL
}

func TestStatuses(t *testing.T) {
	svc, url := serve(t)
	if _, _, err := svc.Ensure(t.Context(), volume.CreateOptions{Name: "used"}, "cafe"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string // a part of it
	}{
		{"POST", "/volumes/create", `{"Name":"vv","Labels":{"a":"b"}}`, 201, `"Labels":{"a":"b"}`},
		{"POST", "/volumes/create", `{"Name":"vv"}`, 201, `"Name":"vv"`},
		{"POST", "/volumes/create", `{}`, 201, `com.docker.volume.anonymous`},
		{"POST", "/volumes/create", `{"Name":"../vv"}`, 400, `includes invalid characters`},
		{"POST", "/volumes/create", `{"Name":"xx","Driver":"nope"}`, 404, `plugin \"nope\" not found`},
		{"POST", "/volumes/create", `{"Name":"xx","ClusterVolumeSpec":{}}`, 503, `not a swarm manager`},
		{"POST", "/volumes/create", `{"Name":`, 400, `invalid JSON`},
		{"GET", "/volumes/vv", "", 200, `"Scope":"local"`},
		{"GET", "/volumes/gone", "", 404, `{"message":"get gone: no such volume"}`},
		{"GET", "/volumes?filters={\"name\":[\"vv\"]}", "", 200, `"Warnings":[]`},
		{"GET", "/volumes?filters={\"name\":[\"none\"]}", "", 200, `"Volumes":[]`},
		{"GET", "/volumes?filters={\"x\":[\"y\"]}", "", 400, `invalid filter 'x'`},
		{"PUT", "/volumes/vv?version=1", `{}`, 503, `volume update only valid for cluster volumes, but swarm is unavailable`},
		{"DELETE", "/volumes/used", "", 409, `remove used: volume is in use - [cafe]`},
		{"DELETE", "/volumes/used?force=1", "", 409, ``},
		{"DELETE", "/volumes/gone", "", 404, ``},
		{"DELETE", "/volumes/gone?force=1", "", 204, ``},
		{"POST", "/volumes/prune", "", 200, `"SpaceReclaimed":0`},
		{"DELETE", "/volumes/vv", "", 204, ``},
		{"POST", "/volumes/prune", "", 200, `"VolumesDeleted":[]`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, url+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(data), c.answer) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, resp.StatusCode, data)
		}
	}
}

// TestDockerCLI lets the real client judge.
func TestDockerCLI(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("needs the docker CLI")
	}
	_, url := serve(t)
	home := t.TempDir()
	for _, c := range []struct{ args, want string }{
		{"volume create --label tier=db --opt type=tmpfs --opt device=tmpfs --opt o=size=1m data", "data\n"},
		{"volume create plain", "plain\n"},
		{"volume create a", "Error response from daemon: create a: volume name is too short, names should be at least two alphanumeric characters\n"},
		{"volume ls -q", "data\nplain\n"},
		{"volume ls -q -f label=tier=db", "data\n"},
		{"volume ls -q -f dangling=false", ""},
		{"volume inspect -f {{.Name}}-{{.Labels.tier}}-{{.Options.o}}-{{.Scope}} data", "data-db-size=1m-local\n"},
		{"volume rm plain", "plain\n"},
		{"volume rm -f plain", "plain\n"},
		{"volume rm plain", "Error response from daemon: get plain: no such volume\n"},
		{"volume prune -f", "Total reclaimed space: 0B\n"},
		{"volume prune -a -f", "Deleted Volumes:\ndata\n\nTotal reclaimed space: 0B\n"},
	} {
		cmd := exec.CommandContext(t.Context(), docker, strings.Fields(c.args)...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=tcp://"+strings.TrimPrefix(url, "http://"), "HOME="+home)
		out, _ := cmd.CombinedOutput()
		if string(out) != c.want {
			t.Errorf("docker %s: %q, want %q", c.args, out, c.want)
		}
	}
}
