package system_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/registry"
	apivolume "github.com/moby/moby/api/types/volume"

	"longshore/internal/core/fault"
	"longshore/internal/core/host"
	"longshore/internal/driver/journal"
	"longshore/internal/server/engineapi"
	"longshore/internal/server/engineapi/system"
	service "longshore/internal/service/engine/system"
)

type counts struct{}

func (counts) Counts() (running, paused, stopped int) { return 1, 0, 2 }

type logins struct{}

func (logins) CheckAuth(_ context.Context, a registry.AuthConfig) (status, token string, err error) {
	if a.Password != "right" {
		return "", "", fault.New(errdefs.ErrUnauthenticated, "Get %q: unauthorized", a.ServerAddress)
	}
	return "Login Succeeded", "token", nil
}

func serve(t *testing.T) (*journal.Journal, string) {
	t.Helper()
	j, err := journal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	svc := service.New(service.Config{
		ID: "id", Product: "Longshore", Version: "0.1", APIVersion: "1.55", MinAPIVersion: "1.0", BuilderVersion: "1", StorageDriver: "overlayfs", Root: "/var/lib/x",
	}, service.Deps{
		Facts: func() *host.Facts {
			return &host.Facts{Hostname: "node", Kernel: "6.1", OS: "Debian", OSType: "linux", Arch: "x86_64"}
		},
		Containers: counts{}, Images: func() int { return 4 }, Events: j, Registry: logins{},
		Usage: service.Usage{Volumes: func(context.Context, bool) (*apivolume.DiskUsage, error) {
			return &apivolume.DiskUsage{TotalCount: 9}, nil
		}},
	})
	api, err := engineapi.New(engineapi.Config{Newest: "1.55", Oldest: "1.0", ServerHeader: "test"}, system.Routes(svc), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(api)
	t.Cleanup(s.Close)
	return j, s.URL
}

func do(t *testing.T, method, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

func TestPing(t *testing.T) {
	_, url := serve(t)
	for method, want := range map[string]string{"GET": "OK", "HEAD": ""} {
		for _, prefix := range []string{"", "/v1.55", "/v1.12"} {
			resp, body := do(t, method, url+prefix+"/_ping", "")
			if resp.StatusCode != 200 || body != want {
				t.Errorf("%s %s: %d %q", method, prefix, resp.StatusCode, body)
			}
			for name, value := range map[string]string{
				"Api-Version": "1.55", "Docker-Experimental": "false", "Builder-Version": "1", "Ostype": "linux", "Swarm": "inactive",
				"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Content-Type": "text/plain; charset=utf-8",
			} {
				if got := resp.Header.Get(name); got != value {
					t.Errorf("%s %s: %s is %q, want %q", method, prefix, name, got, value)
				}
			}
		}
	}
}

// TestAbsent: the answers of an engine without swarm and plugins.
func TestAbsent(t *testing.T) {
	_, url := serve(t)
	const noManager = `{"message":"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."}`
	for _, c := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET /swarm", 503, noManager}, {"GET /nodes", 503, noManager}, {"GET /services/x", 503, noManager},
		{"GET /tasks", 503, noManager}, {"POST /secrets/create", 503, noManager}, {"DELETE /configs/x", 503, noManager},
		{"GET /services/x/logs", 503, noManager}, {"POST /swarm/leave", 503, `{"message":"This node is not part of a swarm"}`},
		{"POST /swarm/init", 503, ""}, {"POST /swarm/join", 503, ""},
		{"GET /plugins", 200, "[]"},
		{"GET /plugins/a/b:c/json", 404, `{"message":"plugin \"a/b:c\" not found"}`},
		{"POST /plugins/p/enable", 404, `{"message":"plugin \"p\" not found"}`},
		{"DELETE /plugins/p", 404, ""}, {"POST /plugins/pull?remote=x", 501, ""}, {"GET /plugins/privileges?remote=x", 501, ""},
		{"GET /v1.23/swarm", 404, ""}, {"GET /v1.24/plugins/p", 404, `{"message":"plugin \"p\" not found"}`},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		resp, body := do(t, method, url+path, "")
		if resp.StatusCode != c.status || (c.body != "" && strings.TrimSpace(body) != c.body) {
			t.Errorf("%s: %d %s", c.request, resp.StatusCode, body)
		}
	}
}

func TestLogin(t *testing.T) {
	_, url := serve(t)
	resp, body := do(t, "POST", url+"/auth", `{"username":"u","password":"right","serveraddress":"r"}`)
	if resp.StatusCode != 200 || strings.TrimSpace(body) != `{"IdentityToken":"token","Status":"Login Succeeded"}` {
		t.Error(resp.StatusCode, body)
	}
	if resp, body := do(t, "POST", url+"/auth", `{"username":"u","password":"wrong","serveraddress":"r"}`); resp.StatusCode != 401 {
		t.Error(resp.StatusCode, body)
	}
	if resp, body := do(t, "POST", url+"/auth", `{`); resp.StatusCode != 400 {
		t.Error(resp.StatusCode, body)
	}
}

func TestUsage(t *testing.T) {
	_, url := serve(t)
	for query, want := range map[string]string{
		"?type=volume":                `{"VolumeUsage":{"TotalCount":9}}`,
		"?type=volume&type=container": `{"ContainerUsage":{},"VolumeUsage":{"TotalCount":9}}`,
		"":                            `{"ImageUsage":{},"ContainerUsage":{},"VolumeUsage":{"TotalCount":9},"BuildCacheUsage":{}}`,
		"?type=x":                     `{"message":"unknown object type: x"}`,
	} {
		if _, body := do(t, "GET", url+"/system/df"+query, ""); strings.TrimSpace(body) != want {
			t.Errorf("%s: %s", query, body)
		}
	}
}

func event(name string) events.Message {
	return events.Message{Type: "container", Action: "start", Actor: events.Actor{ID: name, Attributes: map[string]string{"name": name}}}
}

// TestEvents: headers at once, then the past, then what happens.
func TestEvents(t *testing.T) {
	j, url := serve(t)
	for accept, media := range map[string]string{
		"": "application/jsonl", "*/*": "application/jsonl", "application/json": "application/json", "text/html, application/x-ndjson;q=0.5": "application/x-ndjson",
		"application/json-seq": "application/json-seq",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		req, err := http.NewRequestWithContext(ctx, "GET", url+`/events?filters={"container":["mine"]}`, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := http.DefaultClient.Do(req) // returns with the headers, before any event
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Content-Type"); got != media {
			t.Errorf("%q: %s", accept, got)
		}
		for j.Listeners() == 0 {
			time.Sleep(time.Millisecond)
		}
		j.Publish(ctx, event("other"))
		j.Publish(ctx, event("mine"))
		line, err := bufio.NewReader(resp.Body).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if media == "application/json-seq" {
			rest, ok := strings.CutPrefix(line, "\x1e")
			if !ok {
				t.Errorf("no separator: %q", line)
			}
			line = rest
		}
		var m events.Message
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.Actor.ID != "mine" || m.TimeNano == 0 || m.Scope != "local" {
			t.Errorf("%q: %v", line, err)
		}
		cancel()
		_ = resp.Body.Close()
		for j.Listeners() != 0 {
			time.Sleep(time.Millisecond)
		}
	}
	if resp, body := do(t, "GET", url+"/events?since=x", ""); resp.StatusCode != 400 {
		t.Error(resp.StatusCode, body)
	}
	if _, body := do(t, "GET", url+"/events?since=1&until=1s", ""); strings.Count(body, "\n") > 10 {
		t.Error(body)
	}
}

// TestDockerCLI lets the real client judge.
func TestDockerCLI(t *testing.T) {
	docker, err := exec.LookPath("docker")
	if err != nil {
		t.Skip("needs the docker CLI")
	}
	j, url := serve(t)
	j.Publish(t.Context(), event("web"))
	for args, want := range map[string][]string{
		"version": {"Server: Longshore", "API version:      1.55 (minimum version 1.0)"},
		"info":    {"Containers: 3\n  Running: 1\n  Paused: 0\n  Stopped: 2\n Images: 4", "Server Version: 0.1", "Storage Driver: overlayfs", "Swarm: inactive", "Name: node", "Docker Root Dir: /var/lib/x"},
		"events --since 1h --until -1s --filter type=container --format {{.Action}}-{{.Actor.ID}}": {"start-web"},
		"plugin ls": {"ID"},
		"node ls":   {"This node is not a swarm manager."},
	} {
		cmd := exec.CommandContext(t.Context(), docker, strings.Fields(args)...)
		cmd.Env = []string{"DOCKER_HOST=tcp://" + strings.TrimPrefix(url, "http://"), "HOME=" + t.TempDir(), "DOCKER_API_VERSION="}
		out, _ := cmd.CombinedOutput()
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("docker %s: no %q in\n%s", args, w, out)
			}
		}
	}
}
