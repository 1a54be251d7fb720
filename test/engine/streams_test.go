package engine

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestStreams: exec, logs, attach, copies, statistics.
func TestStreams(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	part(t, d, "exec", execOptions)
	part(t, d, "logs", logOptions)
	part(t, d, "log files", logFiles)
	part(t, d, "attach", attachOptions)
	part(t, d, "a client that hangs up before the start", attachGone)
	part(t, d, "copies", copyLinks)
	part(t, d, "diff and export", diffExport)
	part(t, d, "top and stats", topStats)
}

func execOptions(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "-e", "A=outer", "-u", "33", "-w", "/tmp", "busybox", "sleep", "1000")
	defer d.OK("rm", "-f", id)
	says(t, d, "outer /tmp 33", "exec", id, "sh", "-c", "echo $A $PWD $(id -u)")
	says(t, d, "inner", "exec", "-e", "A=inner", id, "sh", "-c", "echo $A")
	says(t, d, "/etc 0:5", "exec", "-w", "/etc", "-u", "0:5", id, "sh", "-c", "echo $PWD $(id -u):$(id -g)")
	says(t, d, "/dev/pts/0", "exec", "-t", "-u", "0", id, "tty")
	says(t, d, "not a tty", "exec", id, "sh", "-c", "tty; true")
	caps := "grep CapEff /proc/self/status | cut -f2"
	says(t, d, "00000000a80425fb", "exec", "-u", "0", id, "sh", "-c", caps)
	if full := d.OK("exec", "--privileged", "-u", "0", id, "sh", "-c", caps); full == "00000000a80425fb" || !strings.HasPrefix(full, "0000") {
		t.Errorf("privileged: %s", full)
	}
	file := filepath.Join(t.TempDir(), "env")
	write(t, file, "FROM=file\n")
	says(t, d, "file", "exec", "--env-file", file, id, "sh", "-c", "echo $FROM")
	r := d.DockerIn(strings.NewReader("in\n"), "exec", "-i", id, "sh", "-c", "cat; echo err >&2; exit 6")
	if r.Out != "in\n" || r.Err != "err\n" || r.Code != 6 {
		t.Errorf("exec -i: %+v", r)
	}
	if out := d.OK("exec", "-d", id, "sh", "-c", "echo done >/tmp/marker; exec sleep 500"); out != "" {
		t.Errorf("exec -d said %q", out)
	}
	soon(t, d, "done", "exec", id, "sh", "-c", "cat /tmp/marker 2>/dev/null; true")
	var exec struct {
		Running       bool
		Pid           int
		ExitCode      *int
		ProcessConfig struct {
			Entrypoint string `json:"entrypoint"`
		}
	}
	ids := d.OK("inspect", "-f", "{{join .ExecIDs \" \"}}", id)
	if ids == "" {
		t.Error("inspect lists no exec")
	}
	for _, e := range strings.Fields(ids) {
		decode(t, raw(t, d, "GET", "/exec/"+e+"/json", ""), &exec)
		if !exec.Running || exec.Pid == 0 || exec.ExitCode != nil || exec.ProcessConfig.Entrypoint != "sh" {
			t.Errorf("exec: %+v", exec)
		}
	}
	// The start says whether the output is framed, whatever the exec was created with.
	for _, c := range []struct {
		terminal, start string
		framed          bool
	}{{"true", "{}", true}, {"true", `{"Tty":true}`, false}, {"false", "{}", true}, {"false", `{"Tty":true}`, false}} {
		var made struct{ ID string }
		decode(t, raw(t, d, "POST", "/containers/"+id+"/exec", `{"AttachStdout":true,"Tty":`+c.terminal+`,"Cmd":["printf","words"]}`), &made)
		text := raw(t, d, "POST", "/exec/"+made.ID+"/start", c.start)
		if c.framed {
			text = outputOf(t, []byte(text))
		}
		if text != "words" {
			t.Errorf("terminal %s, start %s: %q", c.terminal, c.start, text)
		}
	}
	d.Fails("unable to find user nosuchuser", "exec", "-u", "nosuchuser", id, "true")
}

func logOptions(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "-l", "tier=front", "-e", "COLOUR=blue", "--log-opt", "labels=tier", "--log-opt", "env=COLOUR", "busybox", "sh", "-c",
		"for i in 1 2 3; do echo line$i; sleep 0.4; done; echo problem >&2; printf unfinished")
	defer d.OK("rm", "-f", id)
	says(t, d, "line1\nline2\nline3\nunfinished", "logs", "-f", id)
	r := d.Docker("logs", id)
	if r.Out != "line1\nline2\nline3\nunfinished" || r.Err != "problem\n" {
		t.Errorf("streams: %+v", r)
	}
	for tail, want := range map[string]string{"0": "", "2": "unfinished", "3": "line3\nunfinished", "all": "line1\nline2\nline3\nunfinished", "nonsense": "line1\nline2\nline3\nunfinished"} {
		says(t, d, want, "logs", "--tail", tail, id)
	}
	stamps := strings.Split(d.OK("logs", "-t", id), "\n")
	form := regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (line\d|unfinished)$`)
	for _, line := range stamps {
		if !form.MatchString(line) {
			t.Errorf("timestamps: %q", line)
		}
	}
	at := func(i int) string { stamp, _, _ := strings.Cut(stamps[i], " "); return stamp }
	says(t, d, "line2\nline3\nunfinished", "logs", "--since", at(1), id)
	says(t, d, "line1\nline2", "logs", "--until", at(1), id)
	says(t, d, "line2", "logs", "--since", at(1), "--until", at(1), id)
	says(t, d, "line1\nline2\nline3\nunfinished", "logs", "--since", "1h", "--until", stampNow(), id)
	says(t, d, "", "logs", "--until", "1h", id)
	tells(t, d, []string{"COLOUR=blue,tier=front line1"}, "logs", "--details", "--tail", "5", id)
	d.Fails("No such container: nobody", "logs", "nobody")
	if status, text := exchange(t, d, "GET", "/containers/"+id+"/logs", ""); status != 400 || !strings.Contains(text, "you must choose at least one stream") {
		t.Errorf("no stream: %d %s", status, text)
	}
	// A follower sees what is written later, with --tail and --since too, and ends with the container.
	live := d.OK("run", "-d", "-i", "busybox", "cat")
	in, _, wait := cli(t, d, "attach", live)
	_, _ = io.WriteString(in, "one\ntwo\n")
	soon(t, d, "one\ntwo", "logs", live)
	_, out, done := cli(t, d, "logs", "-f", "--tail", "1", live)
	harness.Eventually(t, 20*time.Second, "the follower has the last line", func() bool { return out.String() == "two\n" })
	_, _ = io.WriteString(in, "three\n")
	harness.Eventually(t, 20*time.Second, "the follower has the new line", func() bool { return out.String() == "two\nthree\n" })
	d.OK("kill", live)
	_ = wait()
	if err := done(); err != nil {
		t.Errorf("the follower ended with %v", err)
	}
	d.OK("rm", live)
}

func logFiles(t *testing.T, d *harness.Daemon) {
	for _, driver := range []string{"json-file", "local"} {
		id := d.OK("run", "-d", "--log-driver", driver, "--log-opt", "max-size=20k", "--log-opt", "max-file=3", "--log-opt", "compress=true", "busybox", "sh", "-c", "for i in $(seq 3000); do echo number $i; done")
		d.OK("wait", id)
		lines := strings.Split(d.OK("logs", id), "\n")
		if last := lines[len(lines)-1]; last != "number 3000" || len(lines) >= 3000 {
			t.Errorf("%s: %d lines, the last is %q", driver, len(lines), last)
		}
		for i, line := range lines[1:] {
			before, _ := strconv.Atoi(strings.TrimPrefix(lines[i], "number "))
			if line != fmt.Sprintf("number %d", before+1) {
				t.Fatalf("%s: a gap: %q after %q", driver, line, lines[i])
			}
		}
		if path := d.OK("inspect", "-f", "{{.LogPath}}", id); (path != "") != (driver == "json-file") {
			t.Errorf("%s: LogPath %q", driver, path)
		}
		d.OK("rm", id)
	}
	none := d.OK("run", "-d", "--log-driver", "none", "busybox", "echo", "x")
	d.Fails("configured logging driver does not support reading", "logs", none)
	d.OK("rm", none)
	d.Fails("max-size", "create", "--log-opt", "max-size=nonsense", "busybox")
}

func attachOptions(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "-i", "busybox", "sh", "-c", "trap 'echo interrupted; exit 3' INT; while read x; do echo got $x; echo bad $x >&2; done; echo eof; exit 5")
	defer d.OK("rm", "-f", id)
	// Keys of another choice detach and leave the container alone.
	in, out, wait := cli(t, d, "attach", "--detach-keys", "x,y", id)
	_, _ = io.WriteString(in, "a\n")
	harness.Eventually(t, 20*time.Second, "an answer on both streams", func() bool {
		return strings.Contains(out.String(), "got a") && strings.Contains(out.String(), "bad a")
	})
	d.OK("kill", "-s", "INT", id)
	if s := fmt.Sprint(wait()); s != "exit status 3" || !strings.Contains(out.String(), "interrupted") {
		t.Errorf("attach ended with %s: %s", s, out)
	}
	d.Fails("You cannot attach to a stopped container, start it first", "attach", id)
	d.OK("start", id)
	_, quiet, waitQuiet := cli(t, d, "attach", "--no-stdin", "--sig-proxy=false", id)
	harness.Eventually(t, 20*time.Second, "it runs", func() bool { return d.OK("inspect", "-f", "{{.State.Running}}", id) == "true" })
	d.OK("stop", "-t", "0", id)
	if err := waitQuiet(); err == nil {
		t.Errorf("attach of a killed container ended well: %s", quiet)
	}
	// Without Upgrade the stream begins after a plain 200, framed; half-closing standard input leaves the output open.
	id2 := d.OK("create", "-i", "busybox", "sh", "-c", "cat; echo end")
	conn, err := net.Dial("unix", d.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(conn, "POST /containers/%s/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n", id2)
	r := bufio.NewReader(conn)
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		head += line
	}
	if !strings.HasPrefix(head, "HTTP/1.1 200 OK\r\n") || !strings.Contains(head, "application/vnd.docker.raw-stream") {
		t.Errorf("head %q", head)
	}
	d.OK("start", id2)
	_, _ = io.WriteString(conn, "through\n")
	_ = conn.(*net.UnixConn).CloseWrite()
	rest, err := io.ReadAll(r)
	if err != nil || outputOf(t, rest) != "through\nend\n" {
		t.Errorf("the stream was %q %v", rest, err)
	}
	d.OK("rm", "-f", id2)
}

// outputOf joins the payload of framed standard output; how it is cut into frames is the writer's and the pipe's affair.
func outputOf(t *testing.T, framed []byte) string {
	var text strings.Builder
	for len(framed) > 0 {
		size := len(framed) - 8
		if size < 0 || framed[0] != 1 || int(binary.BigEndian.Uint32(framed[4:])) > size {
			t.Fatalf("not a frame of standard output: %q", framed)
		}
		size = int(binary.BigEndian.Uint32(framed[4:]))
		text.Write(framed[8 : 8+size])
		framed = framed[8+size:]
	}
	return text.String()
}

// attachGone: attach to a created container, and leave; the daemon must not keep the stream.
func attachGone(t *testing.T, d *harness.Daemon) {
	id := d.OK("create", "-i", "busybox", "cat")
	defer d.OK("rm", "-f", id)
	_, before := d.Footprint()
	var conns []net.Conn
	for range 20 {
		conn, err := net.Dial("unix", d.Socket)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /containers/%s/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n", id)
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "101") {
			t.Fatalf("%q %v", line, err)
		}
		conns = append(conns, conn)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	harness.Eventually(t, 20*time.Second, "the daemon has let go of clients that left", func() bool {
		_, now := d.Footprint()
		return now <= before+3
	})
}

func copyLinks(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "-v", "data:/data", "-v", "ro:/ro:ro", "busybox", "sh", "-c", "ln -s /etc/passwd /abs; ln -s ../etc /home/rel; ln -s /data/sub /root/into; mkdir -p /data/sub /d/e; echo deep >/d/e/f; ln -s /../../../../../../etc/hostname /escape; exec sleep 1000")
	defer d.OK("rm", "-f", id)
	soon(t, d, "/escape", "exec", id, "sh", "-c", "ls /escape 2>/dev/null || true")
	dir := t.TempDir()
	for _, c := range []struct{ from, check string }{
		{"/abs", "readlink abs"}, {"/home/rel/passwd", "head -c4 passwd"}, {"/d", "cat d/e/f"}, {"/d/.", "cat e/f"}, {"/d/./", "cat e/f"}, {"/d/e/f", "cat f"},
	} {
		to := filepath.Join(dir, strings.ReplaceAll(c.from, "/", "_"))
		if err := os.Mkdir(to, 0o755); err != nil {
			t.Fatal(err)
		}
		d.OK("cp", id+":"+c.from, to)
		want := map[string]string{"/abs": "/etc/passwd", "/home/rel/passwd": "root", "/d": "deep", "/d/.": "deep", "/d/./": "deep", "/d/e/f": "deep"}[c.from]
		if got := sh(t, d, "cd "+to+" && "+c.check); got != want {
			t.Errorf("cp %s: %q, want %q", c.from, got, want)
		}
	}
	d.OK("cp", "-L", id+":/abs", dir+"/followed")
	if got := sh(t, d, "head -c4 "+dir+"/followed"); got != "root" {
		t.Errorf("cp -L: %q", got)
	}
	// Into the container: by a link into a volume, with owners, by a pipe; a link never leads out of it.
	write(t, dir+"/file", "from the host\n")
	d.OK("cp", dir+"/file", id+":/root/into/")
	says(t, d, "from the host", "exec", id, "cat", "/data/sub/file")
	sh(t, d, "chown 33:33 "+dir+"/file; docker cp -a "+dir+"/file "+id+":/owned; tar -C "+dir+" -c file | docker cp - "+id+":/d")
	says(t, d, "33:33", "exec", id, "stat", "-c", "%u:%g", "/owned")
	says(t, d, "from the host", "exec", id, "cat", "/d/file")
	before := sh(t, d, "cat /etc/hostname")
	d.OK("cp", dir+"/file", id+":/escape")
	if after := sh(t, d, "cat /etc/hostname"); after != before {
		t.Fatal("a link led out of the container")
	}
	d.Fails("mounted volume is marked read-only", "cp", dir+"/file", id+":/ro/")
	d.Fails("Could not find the file /none in container", "cp", id+":/none", dir)
	d.Fails("", "cp", dir+"/file", id+":/none/deeper/")
	d.Fails("cannot copy directory", "cp", dir, id+":/d/e/f")
	d.Fails("No such container: nobody", "cp", "nobody:/x", dir)
	head := func(path string) string {
		resp, err := d.Client().Head("http://d/containers/" + id + "/archive?path=" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("X-Docker-Container-Path-Stat") != "")
	}
	if a, b := head("/d"), head("/none"); a != "200 true" || b != "404 false" {
		t.Errorf("HEAD: %s, %s", a, b)
	}
	stopped := d.OK("create", "-v", "data:/data", "busybox")
	d.OK("cp", dir+"/file", stopped+":/data/stopped")
	says(t, d, "from the host", "exec", id, "cat", "/data/stopped")
	d.OK("rm", stopped)
}

func diffExport(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "-v", "diffed:/vol", "busybox", "sh", "-c", "echo x >/added; echo y >>/etc/passwd; rm /etc/group; mkdir /dir; touch /dir/in /vol/not; exec sleep 1000")
	defer d.OK("rm", "-f", id)
	const want = "A /added\nA /dir\nA /dir/in\nA /vol\nC /etc\nC /etc/passwd\nD /etc/group"
	harness.Eventually(t, 20*time.Second, "the changes are there", func() bool { return sh(t, d, "docker diff "+id+" | LC_ALL=C sort") == want })
	if got := sh(t, d, "docker export "+id+" | tar t | grep -cE '^(added|dir/in|etc/group|vol/not)$'"); got != "2" {
		t.Errorf("export has %s of the two files", got)
	}
}

func topStats(t *testing.T, d *harness.Daemon) {
	id := d.OK("run", "-d", "--name", "busy", "-m", "64m", "busybox", "sh", "-c", "while :; do :; done & exec sleep 12345")
	defer d.OK("rm", "-f", id)
	tells(t, d, []string{"UID", "PID", "PPID", "CMD", "sleep 12345"}, "top", id)
	if out := d.OK("top", id, "-o", "pid,comm"); !strings.HasPrefix(out, "PID") || !strings.Contains(out, "COMMAND") || strings.Contains(out, "UID") {
		t.Errorf("top with columns: %s", out)
	}
	tells(t, d, []string{"busy", "/ 64MiB"}, "stats", "--no-stream", "--format", "{{.Name}} {{.CPUPerc}} {{.MemUsage}} {{.NetIO}} {{.BlockIO}} {{.PIDs}}", id)
	type stats struct {
		CPU struct {
			Usage struct {
				Total uint64 `json:"total_usage"`
			} `json:"cpu_usage"`
			System uint64 `json:"system_cpu_usage"`
		} `json:"cpu_stats"`
		Pre struct {
			System uint64 `json:"system_cpu_usage"`
		} `json:"precpu_stats"`
		Memory struct{ Usage, Limit uint64 } `json:"memory_stats"`
		Pids   struct{ Current uint64 }      `json:"pids_stats"`
		Nets   map[string]any                `json:"networks"`
	}
	var one, two stats
	decode(t, raw(t, d, "GET", "/containers/busy/stats?stream=0&one-shot=1", ""), &one)
	if one.CPU.Usage.Total == 0 || one.Pre.System != 0 || one.Memory.Limit != 64<<20 || one.Memory.Usage == 0 || one.Pids.Current != 2 || one.Nets["eth0"] == nil {
		t.Errorf("one shot: %+v", one)
	}
	decode(t, raw(t, d, "GET", "/containers/busy/stats?stream=0", ""), &two)
	if two.Pre.System == 0 || two.CPU.System <= two.Pre.System {
		t.Errorf("two samples: %+v", two)
	}
	in, out, wait := cli(t, d, "stats", "--format", "{{.Name}} {{.CPUPerc}}", "busy")
	harness.Eventually(t, 20*time.Second, "the stream shows a busy container", func() bool {
		return regexp.MustCompile(`busy [1-9]\d*\.`).MatchString(out.String())
	})
	_, _ = in, wait // it shows nothing for ever; the end of the test ends it
	d.Fails("No such container: nobody", "stats", "--no-stream", "nobody")
	stopped := d.OK("create", "busybox")
	d.Fails("is not running", "top", stopped)
	tells(t, d, []string{"0B / 0B"}, "stats", "--no-stream", "--format", "{{.MemUsage}}", stopped)
	d.OK("rm", stopped)
}
