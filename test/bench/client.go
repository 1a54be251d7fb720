package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// client speaks to the daemon's socket: what a server costs, without a CLI.
func (d *daemon) client() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", d.socket)
	}}}
}

// call makes a request at API 1.41, which both daemons know, and decodes the answer into out unless that is nil.
func call(c *http.Client, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://engine/v1.41"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// read makes a GET request at API 1.41 and reads the answer to its end, which is all that a server is to be measured by.
func read(c *http.Client, path string, into []byte) error {
	resp, err := c.Get("http://engine/v1.41" + path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("GET %s: %s", path, resp.Status)
	}
	for err == nil {
		_, err = resp.Body.Read(into)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// object is a JSON object.
type object map[string]any

// create makes containers of one configuration, eight at a time, starts them if asked, and answers their IDs.
func (d *daemon) create(count int, start bool, config object) ([]string, error) {
	c := d.client()
	ids := make([]string, count)
	errs := make([]error, count)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range count {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var made struct{ ID string }
			if errs[i] = call(c, http.MethodPost, "/containers/create", config, &made); errs[i] != nil {
				return
			}
			if ids[i] = made.ID; start {
				errs[i] = call(c, http.MethodPost, "/containers/"+made.ID+"/start", nil, nil)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// remove removes containers, eight at a time.
func (d *daemon) remove(ids []string) error {
	c := d.client()
	errs := make([]error, len(ids))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i, id := range ids {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = call(c, http.MethodDelete, "/containers/"+id+"?force=1", nil, nil)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// cpu is the CPU time in seconds that processes whose command line satisfies the filter have used, with that of their
// children that have ended and been waited for.
func cpu(ours func(cmdline string) bool) float64 {
	const ticks = 100 // USER_HZ
	var total int64
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		text, _ := os.ReadFile(path)
		if !ours(strings.ReplaceAll(string(text), "\x00", " ")) {
			continue
		}
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 14 {
			for _, f := range fields[11:15] { // utime, stime, cutime, cstime
				n, _ := strconv.ParseInt(f, 10, 64)
				total += n
			}
		}
	}
	return float64(total) / ticks
}
