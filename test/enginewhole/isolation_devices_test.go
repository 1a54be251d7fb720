package enginewhole

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"longshore/test/harness"
)

func TestDevices(t *testing.T) {
	t.Parallel()
	specs := t.TempDir()
	d := harness.Start(t, "--cdi-spec-dir", specs)
	d.Busybox()

	t.Run("device cgroup rules", func(t *testing.T) {
		// A node that is made inside can be opened only by a rule.
		open := []string{"busybox", "sh", "-c", "mknod /tmp/n c 1 7 2>/dev/null; mknod /tmp/k c 1 11; head -c 1 /tmp/k >/dev/null 2>&1 && echo open || echo refused"}
		if out := d.OK(append([]string{"run", "--rm"}, open...)...); out != "refused" {
			t.Errorf("without a rule: %q", out)
		}
		if st, err := os.Stat("/dev/fuse"); err == nil && st.Mode()&os.ModeCharDevice != 0 { // any capability will do for it
			fuse := []string{"busybox", "sh", "-c", "mknod /tmp/f c 10 229; exec 3<>/tmp/f && echo open || echo refused"}
			for rule, want := range map[string]string{"c 10:* rwm": "open", "c 10:229 m": "refused"} {
				if r := d.Docker(append([]string{"run", "--rm", "--device-cgroup-rule", rule}, fuse...)...); strings.TrimSpace(r.Out) != want && !(want == "refused" && r.Out == "") {
					t.Errorf("rule %s: %q %s, want %s", rule, r.Out, r.Err, want)
				}
			}
		}
		rules := d.OK("run", "--rm", "--device-cgroup-rule", "c 42:* rmw", "--device-cgroup-rule", "b 7:1 r", "busybox", "sh", "-c", "cat /sys/fs/cgroup/devices/devices.list 2>/dev/null || true")
		if rules != "" && (!strings.Contains(rules, "c 42:* rwm") || !strings.Contains(rules, "b 7:1 r")) {
			t.Errorf("the group has %q", rules)
		}
		if status, text := call(t, d, "POST", "/containers/create?name=rule", map[string]any{"Image": "busybox", "HostConfig": map[string]any{"DeviceCgroupRules": []string{"c 42 rw"}}}); status != 201 {
			t.Fatalf("%d %s", status, text)
		}
		refused(t, d, "/containers/rule/start", nil, 400, "invalid device cgroup rule format: 'c 42 rw'")
	})
	t.Run("devices", func(t *testing.T) {
		if out := d.OK("run", "--rm", "--device", "/dev/null:/dev/mynull:r", "busybox", "sh", "-c", "stat -c %t:%T /dev/mynull; echo x > /dev/mynull 2>/dev/null && echo written || echo refused"); out != "1:3\nwritten" && out != "1:3\nrefused" {
			t.Errorf("got %q", out)
		}
		d.Fails("error gathering device information while adding custom device \"/dev/none\"", "run", "--rm", "--device", "/dev/none", "busybox", "true")
	})
	t.Run("CDI", func(t *testing.T) {
		d.Fails("CDI device injection failed: unresolvable CDI devices vendor.com/class=one", "run", "--rm", "--device", "vendor.com/class=one", "busybox", "true")
		tools := t.TempDir()
		write(t, filepath.Join(tools, "f"), "tool")
		write(t, filepath.Join(specs, "vendor.json"), fmt.Sprintf(`{"cdiVersion": "0.5.0", "kind": "vendor.com/class", "devices": [
			{"name": "one", "containerEdits": {"env": ["ONE=1"], "deviceNodes": [{"path": "/dev/one", "hostPath": "/dev/zero"}],
			"mounts": [{"hostPath": %q, "containerPath": "/opt/one", "options": ["ro", "bind"]}]}}]}`, tools))
		out := d.OK("run", "--rm", "--device", "vendor.com/class=one", "busybox", "sh", "-c", "echo $ONE $(cat /opt/one/f) $(head -c 3 /dev/one | wc -c)")
		if out != "1 tool 3" {
			t.Errorf("got %q", out)
		}
		var info struct {
			CDISpecDirs       []string
			DiscoveredDevices []struct{ Source, ID string }
			Warnings          []string
		}
		_, text := call(t, d, "GET", "/info", nil)
		if err := json.Unmarshal([]byte(text), &info); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(info.CDISpecDirs, []string{specs}) || len(info.DiscoveredDevices) != 1 || info.DiscoveredDevices[0].ID != "vendor.com/class=one" || info.DiscoveredDevices[0].Source != "cdi" {
			t.Errorf("info: %+v", info)
		}
		write(t, filepath.Join(specs, "broken.json"), "{")
		if out := d.OK("info", "-f", "{{.Warnings}}"); !strings.Contains(out, "CDI: Failed to read spec file "+filepath.Join(specs, "broken.json")) {
			t.Errorf("a broken description is not told: %s", out)
		}
	})
	t.Run("a GPU without a driver", func(t *testing.T) {
		d.Fails(`could not select device driver "" with capabilities: [[gpu]]`, "run", "--rm", "--gpus", "all", "busybox", "true")
		d.Fails(`could not select device driver "nvidia" with capabilities: [[gpu]]`, "run", "--rm", "--gpus", "driver=nvidia", "busybox", "true")
	})
}

func TestStorage(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	t.Run("size of the writable layer", func(t *testing.T) {
		r := d.Docker("run", "--rm", "--storage-opt", "size=8m", "busybox", "sh", "-c", "dd if=/dev/zero of=/f bs=1M count=16 2>&1; stat -c %s /f")
		if r.Code == 0 {
			if strings.HasSuffix(r.Out, "\n16777216\n") {
				t.Errorf("16 MiB were written: %s", r.Out)
			}
			return
		}
		if !strings.Contains(r.Err, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option") {
			t.Errorf("got %q", r.Err)
		}
		d.Fails("Unknown option color", "create", "--storage-opt", "color=red", "busybox")
		d.Fails("invalid size", "create", "--storage-opt", "size=much", "busybox")
		if ids := d.OK("ps", "-aq"); ids != "" {
			t.Errorf("refused containers are there: %s", ids)
		}
	})
	t.Run("size of a volume", func(t *testing.T) {
		r := d.Docker("volume", "create", "-o", "size=8m", "small")
		if r.Code == 0 {
			if out := d.Docker("run", "--rm", "-v", "small:/v", "busybox", "dd", "if=/dev/zero", "of=/v/f", "bs=1M", "count=16"); out.Code == 0 {
				t.Error("16 MiB were written")
			}
		} else if !strings.Contains(r.Err, "quota size requested but no quota support") {
			t.Errorf("got %q", r.Err)
		}
	})
	t.Run("options of the local driver", func(t *testing.T) {
		d.OK("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=2m,uid=33,mode=750", "mem")
		if out := d.OK("run", "--rm", "-v", "mem:/v", "busybox", "sh", "-c", "df -m /v | tail -1 | awk '{print $2}'; stat -c '%u %a' /v; grep -c ' /v tmpfs' /proc/mounts"); out != "2\n33 750\n1" {
			t.Errorf("tmpfs: %q", out)
		}
		dir := t.TempDir()
		write(t, filepath.Join(dir, "f"), "host")
		d.OK("volume", "create", "-o", "type=none", "-o", "device="+dir, "-o", "o=bind", "bound")
		if out := d.OK("run", "--rm", "-v", "bound:/v", "busybox", "sh", "-c", "cat /v/f; echo new > /v/g"); out != "host" {
			t.Errorf("bind: %q", out)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "g")); err != nil || string(b) != "new\n" {
			t.Errorf("bind: %q %v", b, err)
		}
		d.OK("volume", "create", "-o", "type=none", "-o", "device="+dir, "-o", "o=bind,ro", "fixed")
		if out := d.OK("run", "--rm", "-v", "fixed:/v", "busybox", "sh", "-c", "touch /v/x 2>&1 | grep -c Read-only"); out != "1" {
			t.Errorf("bind, ro: %q", out)
		}
		d.OK("volume", "create", "-o", "type=none", "-o", "device="+dir+"/none", "-o", "o=bind", "nowhere")
		d.Fails("no such file or directory", "run", "--rm", "-v", "nowhere:/v", "busybox", "true")
		d.Fails("missing required option: \"device\"", "volume", "create", "-o", "type=tmpfs", "half")
		d.Fails("invalid option: \"colour\"", "volume", "create", "-o", "colour=red", "other")
		if out := d.OK("volume", "inspect", "-f", "{{.Options.o}} {{.Options.type}}", "mem"); out != "size=2m,uid=33,mode=750 tmpfs" {
			t.Errorf("inspect: %q", out)
		}
	})
	t.Run("a volume from NFS that cannot be mounted", func(t *testing.T) {
		d.OK("volume", "create", "-o", "type=nfs", "-o", "o=addr=127.0.0.1,vers=4,soft,timeo=5,retrans=1", "-o", "device=:/none", "nfs")
		r := d.Fails("error while mounting volume '", "run", "--rm", "-v", "nfs:/v", "busybox", "true")
		if !strings.Contains(r.Err, "failed to mount local volume: mount :/none:") || !strings.Contains(r.Err, "addr=127.0.0.1") {
			t.Errorf("got %q", r.Err)
		}
		d.OK("volume", "create", "-o", "type=nfs", "-o", "o=addr=no.such.host.invalid", "-o", "device=:/none", "nfs2")
		d.Fails("error resolving passed in network volume address", "run", "--rm", "-v", "nfs2:/v", "busybox", "true")
		d.OK("volume", "rm", "nfs", "nfs2")
	})
}
