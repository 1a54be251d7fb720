package engine

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestExecByShim: execs that the shim starts itself are what the OCI runtime would have made of them.
func TestExecByShim(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	if facts := d.OK("info", "-f", "{{.DefaultRuntime}} {{.SecurityOptions}}"); !strings.HasPrefix(facts, "crun ") || strings.Contains(facts, "apparmor") {
		t.Skip("execs are the runtime's here: " + facts)
	}
	part(t, d, "equal to the runtime's", execEquals)
	part(t, d, "failures are the runtime's", execFailures)
	part(t, d, "who gets the runtime", execByRuntime)
	part(t, d, "the shim's binary", execOfShim)
	part(t, d, "a paused and an ending container", execAtEnd)
	part(t, d, "a daemon that is killed", execOverRestart)
}

// portrait prints what a process is. The session tells who started it: the runtime's begins outside of the container.
const portrait = `
echo "session $(cut -d' ' -f6 /proc/$$/stat)"
grep -E '^(Umask|Uid|Gid|Groups|Sig(Blk|Ign|Cgt)|Cap.*|NoNewPrivs|Seccomp.*|Spec.*|Cpus_allowed_list|Threads|TracerPid):' /proc/$$/status
cat /proc/$$/limits /proc/$$/oom_score_adj /proc/$$/cgroup /proc/$$/attr/current 2>/dev/null
for n in /proc/$$/ns/*; do readlink $n; done
ls /proc/$$/fd
stat -L -c '%u:%g %a' /proc/$$/fd/1 /proc/$$/fd/2
readlink /proc/$$/cwd
tr '\0' '\n' </proc/$$/environ | grep -v ^PATH=`

// byRuntime is an environment that only the runtime takes: its PATH leads through the working directory.
const byRuntime = "PATH=/bin:."

// ignored is the line with the signals that a process ignores.
var ignored = regexp.MustCompile(`SigIgn:\t[0-9a-f]{16}`)

// ownSignals takes the signals 32 and 33 away: they are libraries' own. Some shells hand them on ignored to the tests, and
// crun to the process.
func ownSignals(line string) string {
	n, err := strconv.ParseUint(line[len(line)-16:], 16, 64)
	if err != nil {
		return line
	}
	return fmt.Sprintf("SigIgn:\t%016x", n&^(3<<31))
}

// portrayed answers the session and the rest.
func portrayed(d *harness.Daemon, args ...string) (session, rest string) {
	d.T.Helper()
	out := d.OK(append(append([]string{"exec"}, args...), "sh", "-c", portrait)...)
	session, rest, _ = strings.Cut(out, "\n")
	return strings.TrimPrefix(session, "session "), ignored.ReplaceAllStringFunc(rest, ownSignals)
}

func execEquals(t *testing.T, d *harness.Daemon) {
	profile := filepath.Join(t.TempDir(), "profile.json")
	write(t, profile, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdirat","mkdir"],"action":"SCMP_ACT_ERRNO"}]}`)
	peer := d.OK("run", "-d", "busybox", "sleep", "1000")
	for _, c := range []struct{ run, exec string }{
		{"", ""},
		{"", "-u 33"},
		{"", "-u 1000:1000"},
		{"", "-u 54321"},
		{"-u www-data --group-add 100 --group-add 7", ""},
		{"-u www-data", "-u 0"},
		{"", "--privileged"},
		{"", "--privileged -u 33"},
		{"", "-w /tmp -e A=b -e HOME=/x"},
		{"", "-i"},
		{"--privileged", ""},
		{"--privileged -u 33", ""},
		{"--cap-drop ALL", ""},
		{"--cap-drop ALL --cap-add NET_ADMIN -u 33", ""},
		{"--cap-add ALL", ""},
		{"--security-opt seccomp=unconfined", ""},
		{"--security-opt seccomp=unconfined --security-opt no-new-privileges", ""},
		{"--security-opt no-new-privileges", "-u 33"},
		{"--security-opt seccomp=" + profile, ""},
		{"--security-opt seccomp=" + profile + " --security-opt no-new-privileges -u 33", ""},
		{"--pid host", ""},
		{"--pid container:" + peer, ""},
		{"--network host --ipc host --uts host", ""},
		{"--network none --cgroupns host", ""},
		{"--network none --cgroupns private", ""},
		{"--network container:" + peer + " --ipc private", ""},
		{"--ulimit nofile=100:200 --ulimit core=0 --ulimit nproc=500:600", "-u 33"},
		{"--init --read-only --workdir /tmp --cpus 0.5 --memory 64m --pids-limit 50", ""},
		{"--tty", ""},
	} {
		t.Run(c.run+" "+c.exec, func(t *testing.T) {
			whole := d.T
			defer func() { d.T = whole }()
			d.T = t
			id := d.OK(append(append([]string{"run", "-d"}, strings.Fields(c.run)...), "busybox", "sleep", "1000")...)
			defer d.OK("rm", "-f", id)
			args := strings.Fields(c.exec)
			session, got := portrayed(d, append(args, id)...)
			for range 2 { // it may leave one to the runtime when the host has nothing to give
				if session == "0" {
					session, got = portrayed(d, append(args, id)...)
				}
			}
			if session == "0" {
				t.Error("the shim has not started this one")
			}
			session, want := portrayed(d, append(args, "-e", byRuntime, id)...)
			if session != "0" && !strings.Contains(c.run, "pid host") {
				t.Errorf("the runtime has not started this one: session %s", session)
			}
			if got != want {
				t.Errorf("by the shim:\n%s\nby the runtime:\n%s", got, want)
			}
			var null syscall.Stat_t
			if err := syscall.Stat(os.DevNull, &null); err != nil || null.Uid != 0 || null.Gid != 0 {
				t.Errorf("the host's /dev/null belongs to %d:%d %v", null.Uid, null.Gid, err)
			}
		})
	}
	d.OK("rm", "-f", peer)
	id := d.OK("run", "-d", "--oom-score-adj", "77", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	says(t, d, "77", "exec", id, "cat", "/proc/self/oom_score_adj")
}

func execFailures(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	d.OK("exec", id, "sh", "-c", "echo text >/tmp/plain; echo text >/tmp/bad; chmod 755 /tmp/bad; printf '#!/nowhere\n' >/tmp/lost; chmod 755 /tmp/lost; ln -s /proc/self/fd /tmp/fds")
	for _, c := range []struct {
		code int
		args []string
	}{
		{127, []string{id, "nosuchcommand"}},
		{127, []string{id, "/no/such"}},
		{126, []string{id, "/tmp/plain"}},
		{126, []string{id, "/tmp"}},
		{3, []string{id, "sh", "-c", "exit 3"}},
		{137, []string{id, "sh", "-c", "kill -9 $$"}},
		{143, []string{id, "sh", "-c", "kill -15 $$"}},
	} {
		r := d.Docker(append([]string{"exec"}, c.args...)...)
		if r.Code != c.code {
			t.Errorf("exec %v: %+v, want %d", c.args, r, c.code)
		}
		again := d.Docker(append([]string{"exec", "-e", byRuntime}, c.args...)...)
		if again != r {
			t.Errorf("exec %v: %+v, by the runtime %+v", c.args, r, again)
		}
	}
	for _, c := range [][]string{{"-w", "/nowhere", id, "pwd"}, {"-w", "/tmp/fds/3", id, "pwd"}, {"-w", "/proc/self/fd/4", id, "pwd"},
		{"-w", "/proc/self/fd/7", id, "pwd"}, {id, "/tmp/bad"}, {id, "/tmp/lost"}} {
		r := d.Docker(append([]string{"exec"}, c...)...)
		if again := d.Docker(append([]string{"exec", "-e", byRuntime}, c...)...); r.Code == 0 || again != r {
			t.Errorf("exec %v: %+v, by the runtime %+v", c, r, again)
		}
	}
}

func execByRuntime(t *testing.T, d *harness.Daemon) {
	for _, args := range []string{"--cap-add SYS_PTRACE", "--annotation run.oci.keep_original_groups=1"} {
		id := d.OK(append(append([]string{"run", "-d"}, strings.Fields(args)...), "busybox", "sleep", "1000")...)
		if session, _ := portrayed(d, id); session != "0" {
			t.Errorf("%s: the shim has started an exec", args)
		}
		d.OK("rm", "-f", id)
	}
	id := d.OK("run", "-d", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	if out := d.OK("exec", "-t", id, "sh", "-c", "tty"); !strings.HasPrefix(out, "/dev/pts/") {
		t.Errorf("with a terminal: %q", out)
	}
}

// execOfShim: whoever has the child execute the shim's own binary can read it, as any file of the host's that is bound
// into a container read-only, and can never write to it.
func execOfShim(t *testing.T, d *harness.Daemon) {
	before := sum(t, harness.Bin("longshore-shim"))
	id := d.OK("run", "-d", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	d.OK("exec", id, "sh", "-c", `ln -s /proc/self/exe /tmp/docker-init; printf '#!/proc/self/exe\n' >/tmp/script; chmod 755 /tmp/script`)
	for _, command := range []string{"/proc/self/exe", "/tmp/docker-init", "/tmp/script"} {
		if r := d.Docker("exec", id, command); r.Code == 0 {
			t.Errorf("exec %s: %+v", command, r)
		}
	}
	// As the init of docker it stays, so that there is time to try.
	d.OK("exec", "-d", id, "/tmp/docker-init", "--", "sleep", "777")
	pid := ""
	harness.Eventually(t, 30*time.Second, "the shim's binary runs in the container", func() bool {
		pid = d.OK("exec", id, "sh", "-c", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline 2>/dev/null | grep -q ^/tmp/docker-init && echo ${p#/proc/} && break; done; true`)
		return pid != ""
	})
	for _, try := range []string{
		": >/proc/" + pid + "/exe",
		"exec 5</proc/" + pid + "/exe; : >/proc/$$/fd/5",
		"dd if=/dev/zero of=/proc/" + pid + "/exe bs=1 count=1 conv=notrunc",
	} {
		// The kernel says that it is being executed before it says that it is read-only, where nothing is to be cut off.
		r := d.Docker("exec", id, "sh", "-c", try)
		if r.Code == 0 || !strings.Contains(r.Err, "Read-only file system") && !(strings.HasPrefix(try, "dd") && strings.Contains(r.Err, "Text file busy")) {
			t.Errorf("%s: %+v", try, r)
		}
	}
	if out := d.Docker("exec", "--privileged", id, "sh", "-c", "mount -o remount,rw,bind /proc/"+pid+"/exe; echo x >>/proc/"+pid+"/exe"); out.Code == 0 {
		t.Errorf("a privileged exec wrote to the binary: %+v", out)
	}
	if sum(t, harness.Bin("longshore-shim")) != before {
		t.Error("the binary has changed")
	}
}

func sum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

func execAtEnd(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	d.OK("pause", id)
	d.Fails("is paused", "exec", id, "true")
	d.OK("unpause", id)
	d.OK("exec", id, "true")
	// Whatever moment the container ends in, the exec has run or is told that it has not; nothing of it stays.
	for i := range 8 {
		one := d.OK("run", "-d", "busybox", "sh", "-c", fmt.Sprintf("usleep %d", 60000+i*10000))
		for d.Docker("exec", one, "true").Code == 0 {
		}
		d.OK("wait", one)
		d.Fails("is not running", "exec", one, "true")
		d.OK("rm", one)
	}
}

// execOverRestart: a container that was started before knows after the restart what it allows.
func execOverRestart(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "-u", "33", "busybox", "sleep", "1000")
	d.OK("exec", "-d", id, "sh", "-c", "echo $$ >/tmp/pid; exec sleep 500")
	d.Kill()
	d.Up()
	session, got := portrayed(d, id)
	if n, err := strconv.Atoi(session); err != nil || n < 2 {
		t.Errorf("after the restart: session %s", session)
	}
	if _, want := portrayed(d, "-e", byRuntime, id); got != want {
		t.Errorf("by the shim:\n%s\nby the runtime:\n%s", got, want)
	}
	d.OK("exec", id, "sh", "-c", "kill -0 $(cat /tmp/pid)")
	d.OK("rm", "-f", id)
}
