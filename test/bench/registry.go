package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// registryPeer is a registry that is measured: ours, Debian's docker-registry, or the zot that $ZOT names. It runs as a
// process of its own on a free port.
type registryPeer struct {
	name, bin, dir string
	// config writes the configuration for a root folder and an address, and gives the arguments.
	config func(p *registryPeer, host, port string) (args []string, text string)
	url    string
	cmd    *exec.Cmd
	client *http.Client
}

func zotConfig(p *registryPeer, host, port string) ([]string, string) {
	args := []string{"serve", p.file()}
	if p.name == "ours" {
		args = append([]string{"registry"}, args...)
	}
	return args, fmt.Sprintf(`{"distSpecVersion": "1.1.1", "storage": {"rootDirectory": %q, "gc": false}, "http": {"address": %q, "port": %q}, "log": {"level": "error"}}`,
		filepath.Join(p.dir, "root"), host, port)
}

func distributionConfig(p *registryPeer, host, port string) ([]string, string) {
	return []string{"serve", p.file()}, fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage:\n  filesystem: {rootdirectory: %q, maxthreads: 100}\n  delete: {enabled: true}\nhttp: {addr: %q}\n",
		filepath.Join(p.dir, "root"), net.JoinHostPort(host, port))
}

func (p *registryPeer) file() string { return filepath.Join(p.dir, "config.json") }

// registryPeers are those that are here, ours first.
func registryPeers(dir string) ([]*registryPeer, error) {
	self, err := filepath.Abs("bin/longshore")
	if err != nil {
		return nil, err
	}
	list := []*registryPeer{{name: "ours", bin: self, config: zotConfig}, {name: "docker-registry", config: distributionConfig}, {name: "zot", bin: os.Getenv("ZOT"), config: zotConfig}}
	if path, err := exec.LookPath("docker-registry"); err == nil {
		list[1].bin = path
	}
	for _, p := range list {
		p.dir = filepath.Join(dir, p.name)
		p.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
		if err := os.MkdirAll(filepath.Join(p.dir, "root"), 0o700); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// start runs the registry and waits for its first answer, and says how long that took.
func (p *registryPeer) start() (time.Duration, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return 0, err
	}
	if err := l.Close(); err != nil {
		return 0, err
	}
	args, text := p.config(p, host, port)
	if err := os.WriteFile(p.file(), []byte(text), 0o600); err != nil {
		return 0, err
	}
	p.url = "http://" + net.JoinHostPort(host, port)
	p.cmd = exec.Command(p.bin, args...)
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if resp, err := p.client.Get(p.url + "/v2/"); err == nil {
			return time.Since(begin), resp.Body.Close()
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s does not answer", p.name)
		case <-tick.C:
		}
	}
}

func (p *registryPeer) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	_ = p.cmd.Wait() // ended by the signal
	p.client.CloseIdleConnections()
	p.cmd = nil
}

// cpu is the CPU time that the process has used, in seconds.
func (p *registryPeer) cpu() float64 {
	return cpu(func(line string) bool { return strings.HasPrefix(line, p.bin+" ") && strings.Contains(line, p.file()) })
}

// memory is a line of the process's status in MB.
func (p *registryPeer) memory(name string) float64 {
	return float64(field(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid), name)) / 1024
}

// ask sends a request and wants a status below 300.
func (p *registryPeer) ask(method, url, media string, body io.Reader, size int64) (*http.Response, error) {
	if !strings.HasPrefix(url, "http") {
		url = p.url + url
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s %s: %s: %.200s", p.name, method, url, resp.Status, text)
	}
	return resp, err
}

// pushBlob is what docker does: open an upload, send the bytes.
func (p *registryPeer) pushBlob(repo, sum string, body io.Reader, size int64) error {
	resp, err := p.ask("POST", "/v2/"+repo+"/blobs/uploads/", "", nil, 0)
	if err != nil {
		return err
	}
	u, err := resp.Location()
	if err != nil {
		return err
	}
	q := u.Query()
	q.Set("digest", "sha256:"+sum)
	u.RawQuery = q.Encode()
	_, err = p.ask("PUT", u.String(), "application/octet-stream", body, size)
	return err
}

func (p *registryPeer) pushBytes(repo string, b []byte) error {
	return p.pushBlob(repo, hexSum(b), bytes.NewReader(b), int64(len(b)))
}

func hexSum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// emptyIndex is a manifest that needs no blobs; n makes it different from others.
func emptyIndex(n int) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"n":"%d"}}`, indexType, n)
}

const indexType = "application/vnd.oci.image.index.v1+json"

func (p *registryPeer) pushManifest(repo, ref, media string, doc []byte) error {
	_, err := p.ask("PUT", "/v2/"+repo+"/manifests/"+ref, media, bytes.NewReader(doc), int64(len(doc)))
	return err
}

// side runs f for 0…n-1 with some workers; the first error ends it.
func side(workers, n int, f func(i int) error) error {
	var wg sync.WaitGroup
	jobs := make(chan int, n)
	for i := range n {
		jobs <- i
	}
	close(jobs)
	errs := make(chan error, workers)
	for range workers {
		wg.Go(func() {
			for i := range jobs {
				if err := f(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
