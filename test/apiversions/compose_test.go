package apiversions

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// composeFiles are a small application in the newest form of the file that each version of the API allows.
var composeFiles = map[string]string{
	// The first form knows neither networks nor named volumes.
	"1.21": `
web:
  image: busybox
  command: ["sh", "-c", "echo started; exec httpd -f -p 80 -h /etc"]
  ports: ["18191:80"]
  volumes: ["/data"]
  environment: {COLOUR: blue}
app:
  image: busybox
  command: ["sh", "-c", "until wget -qO /group http://site/group; do sleep 0.2; done; echo got it; exec sleep 1000"]
  links: ["web:site"]
`,
	"1.24": "version: '2.1'\n" + composeServices,
	"1.33": "version: '2.3'\n" + composeServices,
	"1.41": "version: '3.7'\n" + composeServices,
}

const composeServices = `
services:
  web:
    image: busybox
    command: ["sh", "-c", "echo started; exec httpd -f -p 80 -h /etc"]
    ports: ["18191:80"]
    volumes: ["data:/data"]
    environment: {COLOUR: blue}
    networks: {back: {aliases: [site]}}
  app:
    image: busybox
    command: ["sh", "-c", "until wget -qO /group http://site/group; do sleep 0.2; done; echo got it; exec sleep 1000"]
    depends_on: [web]
    networks: [back]
volumes: {data: {}}
networks: {back: {}}
`

// TestCompose pins docker-compose 1.29 to versions of the API.
func TestCompose(t *testing.T) {
	if _, err := exec.LookPath("docker-compose"); err != nil {
		t.Skip("docker-compose is not installed: make test installs it")
	}
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	for _, version := range []string{"1.21", "1.24", "1.33", "1.41"} {
		t.Run(version, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "docker-compose.yml")
			if err := os.WriteFile(file, []byte(composeFiles[version]), 0o600); err != nil {
				t.Fatal(err)
			}
			compose := func(args ...string) string {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				r := d.Exec(ctx, nil, "env", append([]string{"COMPOSE_API_VERSION=" + version, "docker-compose", "--no-ansi", "-p", "pinned", "-f", file}, args...)...)
				if r.Code != 0 {
					t.Fatalf("docker-compose %v: exit %d\n%s%s\n%s", args, r.Code, r.Out, r.Err, d.Log())
				}
				return r.Out
			}
			compose("up", "-d")
			harness.Eventually(t, 30*time.Second, "one container reads from the other by its alias", func() bool {
				return strings.Contains(d.OK("logs", "pinned_app_1"), "got it")
			})
			if out := compose("logs", "web"); !strings.Contains(out, "started") {
				t.Errorf("logs: %q", out)
			}
			if out := compose("exec", "-T", "web", "sh", "-c", "echo $COLOUR"); out != "blue\n" {
				t.Errorf("exec: %q", out)
			}
			compose("up", "-d", "-t", "0", "--scale", "app=2")
			if out := compose("ps"); strings.Count(out, "Up") != 3 || !strings.Contains(out, "0.0.0.0:18191->80/tcp") {
				t.Errorf("scaled:\n%s", out)
			}
			compose("down", "-v", "-t", "0")
			if left := d.OK("ps", "-aq") + d.OK("volume", "ls", "-q"); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}
