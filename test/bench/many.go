package main

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"longshore/internal/core/firewall"
	"longshore/internal/driver/nftables"
)

const thousand = 1000

// benchMany measures what a thousand containers cost those who look at them, and the daemon's start. A tenth of them have
// run; for dockerd, to which each run is a second, none has.
func (b *bench) benchMany() error {
	var ps, df, up [2]time.Duration
	for i, d := range b.daemons() {
		run := thousand / 10
		if d == b.docker {
			run = 0
		}
		ran, err := d.create(run, true, object{"Image": "busybox", "Cmd": []string{"true"}, "HostConfig": object{"NetworkMode": "none"}})
		if err != nil {
			return err
		}
		made, err := d.create(thousand-run, false, object{"Image": "busybox", "Cmd": []string{"true"}, "Labels": object{"tier": "front"}})
		if err != nil {
			return err
		}
		c := d.client()
		for _, id := range ran {
			if err := call(c, http.MethodPost, "/containers/"+id+"/wait", nil, nil); err != nil {
				return err
			}
		}
		for n := range 20 {
			if err := call(c, http.MethodPost, "/volumes/create", object{"Name": fmt.Sprintf("many%d", n)}, nil); err != nil {
				return err
			}
		}
		if ps[i], err = d.late(200, "/containers/json?all=1"); err != nil {
			return err
		}
		if df[i], err = d.late(20, "/system/df"); err != nil {
			return err
		}
		if up[i], err = b.restart(d); err != nil {
			return err
		}
		if err := d.remove(append(ran, made...)); err != nil {
			return err
		}
		if _, err := d.run("volume", "prune", "-af"); err != nil {
			_, _ = d.run("volume", "prune", "-f") // dockerd 20.10 takes named volumes, too
		}
	}
	print("ps -a of 1,000 containers, p99, on its socket", ms(ps[0]), ms(ps[1]), "–", ratio(float64(ps[0]), float64(ps[1]))+" dockerd", "≤ 10 ms")
	print("system df with them and 20 volumes, p99", ms(df[0]), ms(df[1]), "–", ratio(float64(df[0]), float64(df[1]))+" dockerd", "≤ 50 ms")
	print("start with them, to the first answer", ms(up[0]), ms(up[1]), "–", ratio(float64(up[0]), float64(up[1]))+" dockerd", "≤ 300 ms")
	return nil
}

// late is the 99th percentile of a request's time on a connection that stands, the worst of fewer than 100.
func (d *daemon) late(n int, path string) (time.Duration, error) {
	c, into := d.client(), make([]byte, 256<<10)
	if err := read(c, path, into); err != nil {
		return 0, err
	}
	t, err := times(n, func() error { return read(c, path, into) })
	if err != nil {
		return 0, err
	}
	return t[len(t)-1-len(t)/100], nil
}

// restart ends a daemon and answers the median time from its execution to the first answer.
func (b *bench) restart(d *daemon) (time.Duration, error) {
	var list []time.Duration
	for range 3 {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		_ = d.cmd.Wait()
		old := d.cmd
		begin := time.Now()
		if err := d.spawn(old.Args, old.Stdout); err != nil {
			return 0, err
		}
		c := d.client()
		for call(c, http.MethodGet, "/_ping", nil, nil) != nil && time.Since(begin) < time.Minute {
			time.Sleep(time.Millisecond) // how fine the figure is
		}
		list = append(list, time.Since(begin))
	}
	return sortedMedian(list), nil
}

// benchPorts measures one published port more beside a thousand: what a container's start and stop cost with it and
// without, and the transaction of the firewall alone.
func (b *bench) benchPorts() error {
	busy := object{"ExposedPorts": object{}, "Image": "busybox", "Cmd": []string{"sleep", "1000"}, "HostConfig": object{}}
	bindings := object{}
	for p := range thousand {
		bindings[fmt.Sprintf("%d/tcp", 20000+p)] = []object{{"HostPort": fmt.Sprint(20000 + p)}}
	}
	busy["HostConfig"] = object{"PortBindings": bindings}
	held, err := b.ours.create(1, true, busy)
	if err != nil {
		return err
	}
	var cost [2]time.Duration // of start and stop: without a port, with one
	var list [2][]time.Duration
	c := b.ours.client()
	one := [2]object{{}, {"PortBindings": object{"80/tcp": []object{{"HostPort": "8080"}}}}}
	var ids []string
	for i := range one {
		made, err := b.ours.create(1, false, object{"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "ExposedPorts": object{"80/tcp": object{}}, "HostConfig": one[i]})
		if err != nil {
			return err
		}
		ids = append(ids, made[0])
	}
	for range b.n {
		for i, id := range ids { // interleaved
			begin := time.Now()
			for _, do := range []string{"start", "kill", "wait"} {
				if err := call(c, http.MethodPost, "/containers/"+id+"/"+do, nil, nil); err != nil && do != "wait" {
					return err
				}
			}
			list[i] = append(list[i], time.Since(begin))
		}
	}
	for i := range cost {
		cost[i] = sortedMedian(list[i])
	}
	if err := b.ours.remove(append(ids, held...)); err != nil {
		return err
	}
	alone, err := firewallAlone(b.n)
	if err != nil {
		return err
	}
	print("publish one port beside 1,000, the firewall's transaction", us(alone[0]), "–", "–", "–", "≤ 1 ms")
	print("unpublish it", us(alone[1]), "–", "–", "–", "≤ 1 ms")
	print("start and end of a container, more with a port than without", us(cost[1]-cost[0]), "–", "–", ms(cost[0])+" without", "≤ 2 ms")
	return nil
}

func us(d time.Duration) string { return fmt.Sprintf("%d µs", d.Microseconds()) }

// firewallAlone publishes and unpublishes a port in a network namespace of its own, which ends with its thread.
func firewallAlone(n int) (med [2]time.Duration, err error) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and is not given back
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			f := nftables.New(firewall.Config{}, slog.New(slog.DiscardHandler))
			defer f.Close()
			port := func(p uint16) []firewall.Port {
				return []firewall.Port{{Proto: unix.IPPROTO_TCP, HostPort: p, Target: netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 17, byte(p >> 8), byte(p)}), 80)}}
			}
			var held []firewall.Port
			for p := range uint16(thousand) {
				held = append(held, port(20000+p)...)
			}
			net := firewall.Network{Bridge: "br0", Subnets: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}, Masquerade: true}
			if err := f.Reset([]firewall.Network{net}, held); err != nil {
				return err
			}
			var on, off []time.Duration
			for range max(n, 100) {
				begin := time.Now()
				if err := f.Publish(port(8080)); err != nil {
					return err
				}
				middle := time.Now()
				if err := f.Unpublish(port(8080)); err != nil {
					return err
				}
				on, off = append(on, middle.Sub(begin)), append(off, time.Since(middle))
			}
			med = [2]time.Duration{sortedMedian(on), sortedMedian(off)}
			return nil
		}()
	}()
	return med, <-done
}

// benchHealth measures health checks of 500 containers, each every ten seconds: all that the daemon, the shims, the
// runtimes and the checked commands themselves use. dockerd gets 50 containers, and its figure is multiplied.
func (b *bench) benchHealth() error {
	const window = 30 * time.Second
	var cores [2]float64
	var own float64
	for i, d := range b.daemons() {
		count := 500
		if d == b.docker {
			count = 50
		}
		ids, err := d.create(count, true, object{"Image": "busybox", "Cmd": []string{"sleep", "100000"}, "HostConfig": object{"NetworkMode": "none"},
			"Healthcheck": object{"Test": []string{"CMD", "true"}, "Interval": 10 * time.Second}})
		if err != nil {
			return err
		}
		time.Sleep(12 * time.Second) // all have been checked once
		daemon := func(line string) bool { return strings.Contains(line, d.socket) && !strings.Contains(line, "nsenter") }
		all := func(line string) bool {
			return daemon(line) || strings.Contains(line, b.dir) || slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(line, id) })
		}
		before, ownBefore := cpu(all), cpu(daemon)
		time.Sleep(window)
		cores[i] = (cpu(all) - before) / window.Seconds() * 500 / float64(count)
		if d == b.ours {
			own = (cpu(daemon) - ownBefore) / window.Seconds()
		}
		if err := d.remove(ids); err != nil {
			return err
		}
	}
	print("health checks of 500 containers every 10 s", percent(cores[0]), percent(cores[1]), "–", ratio(cores[0], cores[1])+" dockerd; the daemon itself "+percent(own), "≤ 10 % of a core")
	return nil
}

func percent(cores float64) string {
	if cores == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", cores*100)
}

// benchConnect measures connecting the first and the thousandth container to a bridge.
func (b *bench) benchConnect() error {
	if _, err := b.ours.run("network", "create", "--subnet", "10.250.0.0/16", "big"); err != nil {
		return err
	}
	c := b.ours.client()
	var first, last []time.Duration
	var ids []string
	for n := range thousand {
		made, err := b.ours.create(1, false, object{"Image": "busybox", "Cmd": []string{"sleep", "1000"}, "HostConfig": object{"NetworkMode": "big"}})
		if err != nil {
			return err
		}
		ids = append(ids, made[0])
		begin := time.Now()
		if err := call(c, http.MethodPost, "/containers/"+made[0]+"/start", nil, nil); err != nil {
			return err
		}
		switch t := time.Since(begin); {
		case n < 20:
			first = append(first, t)
		case n >= thousand-20:
			last = append(last, t)
		}
	}
	f, l := sortedMedian(first), sortedMedian(last)
	if err := b.ours.remove(ids); err != nil {
		return err
	}
	if _, err := b.ours.run("network", "rm", "big"); err != nil {
		return err
	}
	print("start of the 1,000th container of a bridge", ms(l), "–", "–", ratio(float64(l), float64(f))+" the first", "≤ 1.5 × the first")
	return nil
}
