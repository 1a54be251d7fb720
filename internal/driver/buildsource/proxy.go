package buildsource

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// proxy is an HTTP proxy on a loopback port that dials through the guard, for a program that would look names up and
// follow redirects by itself.
type proxy struct {
	listener net.Listener
	server   *http.Server
	client   *http.Transport
	guard    *guard
	serving  sync.WaitGroup

	mu  sync.Mutex
	why error // the first refusal
}

// startProxy begins to serve; stop ends it.
func startProxy(g *guard) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, guard: g, client: g.transport()}
	p.client.Proxy = nil
	p.server = &http.Server{Handler: p}
	p.serving.Go(func() { _ = p.server.Serve(l) })
	return p, nil
}

func (p *proxy) address() string { return "http://" + p.listener.Addr().String() }

func (p *proxy) stop() {
	_ = p.server.Close()
	p.client.CloseIdleConnections()
	p.serving.Wait()
}

func (p *proxy) refusal() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

func (p *proxy) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.why == nil && errors.Is(err, errLocal) {
		p.why = err
	}
}

// ServeHTTP forwards a request, or tunnels for CONNECT.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		p.tunnel(w, r)
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.Header.Del("Proxy-Connection")
	resp, err := p.client.RoundTrip(out)
	if err != nil {
		p.note(err)
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // the client notices what is missing
}

func (p *proxy) tunnel(w http.ResponseWriter, r *http.Request) {
	there, err := p.guard.dial(r.Context(), "tcp", r.Host)
	if err != nil {
		p.note(err)
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	hj, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	here, rw, err := hj.Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(there, rw)
		_ = there.Close()
	})
	_, _ = io.Copy(here, there)
	_ = here.Close()
	both.Wait()
}

// isProxied tells whether the environment sends an address through a proxy.
func isProxied(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	via, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	return err == nil && via != nil
}
