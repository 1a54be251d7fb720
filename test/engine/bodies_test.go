package engine

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"longshore/test/harness"
)

// TestBodiesNobodyAskedFor: streams that need no body take one, keep the connection, and notice when their client leaves.
func TestBodiesNobodyAskedFor(t *testing.T) {
	t.Parallel()
	d := harness.Start(t)
	d.Busybox()
	d.OK("run", "--name", "ended", "busybox", "true")
	d.OK("run", "-d", "--name", "lives", "busybox", "sleep", "600")
	bodies := map[string]string{
		"none": "\r\n", "length": "Content-Length: 2\r\n\r\n{}", "chunks": "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
		"much": "Content-Length: 3000000\r\n\r\n{" + strings.Repeat(" ", 2_999_998) + "}",
	}
	dial := func() net.Conn {
		c, err := net.Dial("unix", d.Socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		return c
	}
	send := func(c net.Conn, request, body string) {
		if _, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n%s", request, body); err != nil {
			t.Fatal(request, err)
		}
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			c := dial()
			defer c.Close()
			r := bufio.NewReader(c)
			for _, request := range []string{
				"POST /containers/ended/wait", "POST /v1.24/containers/ended/wait", "GET /events?since=0&until=1", "GET /containers/lives/stats?stream=0&one-shot=1",
				"POST /images/none.invalid/push", "GET /containers/ended/logs?stdout=1", "GET /images/busybox/get", "POST /containers/ended/wait", "GET /_ping",
			} {
				send(c, request, body)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("%s: %v", request, err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Close {
					t.Errorf("%s: %v, close: %v", request, err, resp.Close)
				}
			}
		})
	}
	goroutines, _ := d.Footprint()
	for _, request := range []string{"POST /containers/lives/wait", "POST /v1.24/containers/lives/wait", "GET /events", "GET /containers/lives/stats"} {
		for name, body := range bodies {
			c := dial()
			send(c, request, body)
			if !strings.Contains(request, "v1.24") { // which sends its headers late
				if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("%s, body %s: %v", request, name, err)
				}
			}
			_ = c.Close()
		}
	}
	harness.Eventually(t, 30*time.Second, "nobody waits for clients that have left", func() bool {
		now, _ := d.Footprint()
		return now <= goroutines+3 // others come and go
	})
	d.OK("rm", "-f", "ended", "lives")
}
