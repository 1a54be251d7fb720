package engine

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// part runs a subtest with a daemon whose failures are the subtest's.
func part(t *testing.T, d *harness.Daemon, name string, f func(t *testing.T, d *harness.Daemon)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		whole := d.T
		defer func() { d.T = whole }()
		d.T = t
		f(t, d)
	})
}

// says checks the output of a docker command that succeeds.
func says(t *testing.T, d *harness.Daemon, want string, args ...string) {
	t.Helper()
	if got := d.OK(args...); got != want {
		t.Errorf("docker %s:\n%s\nwant\n%s", strings.Join(args, " "), got, want)
	}
}

// tells checks that a docker command succeeds and that its output and its warnings have all the words.
func tells(t *testing.T, d *harness.Daemon, words []string, args ...string) {
	t.Helper()
	r := d.Docker(args...)
	if r.Code != 0 {
		t.Fatalf("docker %s: exit %d\n%s%s\n%s", strings.Join(args, " "), r.Code, r.Out, r.Err, d.Log())
	}
	for _, w := range words {
		if !strings.Contains(r.Out+r.Err, w) {
			t.Errorf("docker %s: %q is missing in\n%s%s", strings.Join(args, " "), w, r.Out, r.Err)
		}
	}
}

// exits checks the exit code of a docker command.
func exits(t *testing.T, d *harness.Daemon, code int, args ...string) harness.Result {
	t.Helper()
	r := d.Docker(args...)
	if r.Code != code {
		t.Errorf("docker %s: exit %d, want %d\n%s%s", strings.Join(args, " "), r.Code, code, r.Out, r.Err)
	}
	return r
}

// sh runs a shell script of the client's side: $docker is the CLI's environment, and what the script pipes is its own matter.
func sh(t *testing.T, d *harness.Daemon, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := d.Exec(ctx, nil, "bash", "-euo", "pipefail", "-c", script)
	if r.Code != 0 {
		t.Fatalf("%s: exit %d\n%s%s\n%s", script, r.Code, r.Out, r.Err, d.Log())
	}
	return strings.TrimSpace(r.Out)
}

// soon waits until a docker command prints the text.
func soon(t *testing.T, d *harness.Daemon, want string, args ...string) {
	t.Helper()
	last := ""
	defer func() {
		if t.Failed() && last != want {
			t.Logf("docker %s said %q at last", strings.Join(args, " "), last)
		}
	}()
	harness.Eventually(t, 30*time.Second, "docker "+strings.Join(args, " ")+" says "+want, func() bool {
		last = d.OK(args...)
		return last == want
	})
}

// fileServer serves a directory.
func fileServer(dir string) *http.Server {
	return &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
}

// stampNow is the time as docker's filters read it.
func stampNow() string { return time.Now().Format(time.RFC3339Nano) }

// raw is an exchange with the newest API that must succeed; it answers the body.
func raw(t *testing.T, d *harness.Daemon, method, path, body string, headers ...string) string {
	t.Helper()
	status, text := exchange(t, d, method, path, body, headers...)
	if status >= 400 {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return text
}

// exchange is a request to the newest API and its answer.
func exchange(t *testing.T, d *harness.Daemon, method, path, body string, headers ...string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// decode reads JSON.
func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
