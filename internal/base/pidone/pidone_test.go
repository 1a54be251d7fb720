package pidone

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// helperEnv makes the test binary play the init process.
const helperEnv = "LONGSHORE_PIDONE_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		_ = os.Unsetenv(helperEnv)
		_ = syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
		_ = syscall.Mount("proc", "/proc", "proc", 0, "")
		os.Exit(Run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// asInit prepares the command below an init process in a process namespace of its own.
func asInit(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a process namespace is made for real")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, append([]string{"--"}, args...)...)
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	return cmd
}

func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return 0
	}
	return exit.ExitCode()
}

func TestExitCodes(t *testing.T) {
	plain := t.TempDir() + "/plain"
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"success":        {[]string{"true"}, 0},
		"code":           {[]string{"sh", "-c", "exit 42"}, 42},
		"killed":         {[]string{"sh", "-c", "kill -KILL $$"}, 137},
		"not found":      {[]string{"no-such-command"}, 127},
		"path not found": {[]string{"/no/such/command"}, 127},
		"no executable":  {[]string{plain}, 126},
		"nothing":        {nil, 127},
	} {
		t.Run(name, func(t *testing.T) {
			if got := code(t, asInit(t, c.args...).Run()); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestSignalsAreHandedOn(t *testing.T) {
	cmd := asInit(t, "sh", "-c", `trap 'echo term; exit 7' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.01; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, step := range []struct {
		want string
		send syscall.Signal
	}{{"ready", syscall.SIGUSR1}, {"usr1", syscall.SIGTERM}, {"term", 0}} {
		if !lines.Scan() || lines.Text() != step.want {
			t.Fatalf("got %q, want %q", lines.Text(), step.want)
		}
		if err := cmd.Process.Signal(step.send); err != nil && step.send != 0 {
			t.Fatal(err)
		}
	}
	if got := code(t, cmd.Wait()); got != 7 {
		t.Errorf("ended with %d", got)
	}
}

func TestOrphansAreReaped(t *testing.T) {
	// a child that outlives its parent becomes ours; ended, it must not stay as a zombie
	script := `echo $PPID; sh -c 'sh -c "exit 0" & echo $! > /proc/self/fd/1 &' | cat
		i=0; while grep -qs '^State:.Z' /proc/[0-9]*/status; do i=$((i+1)); [ $i -gt 500 ] && echo zombie && exit 1; sleep 0.01; done; echo clean`
	out, err := asInit(t, "sh", "-c", script).Output()
	if text := string(out); err != nil || !strings.HasPrefix(text, "1\n") || !strings.HasSuffix(text, "clean\n") {
		t.Errorf("%q, %v", text, err)
	}
}

func TestNamed(t *testing.T) {
	if !Named("/sbin/docker-init") || Named("/usr/bin/longshore-shim") {
		t.Error("wrong name")
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"yes": 0o755, "no": 0o644} {
		if err := os.WriteFile(dir+"/"+name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := lookPath("yes", "/nowhere:"+dir); got != dir+"/yes" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := lookPath("no", dir); !errors.Is(err, os.ErrPermission) {
		t.Errorf("not executable: %v", err)
	}
	if _, err := lookPath("other", dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
