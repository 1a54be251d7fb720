package buildkit

import (
	"context"
	"net"
	"sync"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/moby/api/types/registry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"longshore/internal/core/build"
)

// Names of the sources that the Dockerfile frontend asks a session for.
const (
	contextDir    = "context"
	dockerfileDir = "dockerfile"
)

// serveSession makes the session that a client of the classic API does not have: it serves the request's sources and
// credentials to the solver. stop ends it and waits for it.
func (c *core) serveSession(ctx context.Context, r build.Request) (id string, stop func(), err error) {
	s, err := session.NewSession(ctx, r.Source.Key)
	if err != nil {
		return "", nil, err
	}
	dirs := filesync.StaticDirSource{}
	if r.Source.Context != nil {
		dirs[contextDir], dirs[dockerfileDir] = r.Source.Context, r.Source.Context
	}
	if r.Source.Dockerfile != nil {
		dirs[dockerfileDir] = r.Source.Dockerfile
	}
	s.Allow(filesync.NewFSSyncProvider(dirs))
	s.Allow(credentials{auth: r.Auth})
	if r.Source.Key == "" {
		c.worker.unkeyed.Store(s.ID(), true)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wait sync.WaitGroup
	ready := make(chan struct{})
	var once sync.Once
	wait.Go(func() {
		defer once.Do(func() { close(ready) })
		_ = s.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			ours, theirs, err := socketPair()
			if err != nil {
				return nil, err
			}
			wait.Go(func() { _ = c.sessions.HandleConn(ctx, theirs, meta) })
			once.Do(func() { close(ready) })
			return ours, nil
		})
	})
	<-ready
	return s.ID(), func() {
		_ = s.Close()
		cancel()
		wait.Wait()
		c.worker.unkeyed.Delete(s.ID())
	}, nil
}

// credentials answer what registries ask for.
type credentials struct {
	auth.UnimplementedAuthServer
	auth map[string]registry.AuthConfig
}

// Register adds the service to a session.
func (c credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// Credentials looks a host up under the names that clients use for it.
func (c credentials) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	hosts := []string{r.Host, "https://" + r.Host, "http://" + r.Host, "https://" + r.Host + "/v1/", "https://" + r.Host + "/v2/"}
	if r.Host == "registry-1.docker.io" || r.Host == "docker.io" {
		hosts = append(hosts, "https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
	}
	for _, h := range hosts {
		a, ok := c.auth[h]
		if !ok {
			continue
		}
		if a.IdentityToken != "" {
			return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
		}
		return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password}, nil
	}
	return &auth.CredentialsResponse{}, nil
}

// GetTokenAuthority says that tokens are the builder's own business.
func (c credentials) GetTokenAuthority(context.Context, *auth.GetTokenAuthorityRequest) (*auth.GetTokenAuthorityResponse, error) {
	return nil, status.Error(codes.Unavailable, "client side tokens disabled")
}

// VerifyTokenAuthority says the same.
func (c credentials) VerifyTokenAuthority(context.Context, *auth.VerifyTokenAuthorityRequest) (*auth.VerifyTokenAuthorityResponse, error) {
	return nil, status.Error(codes.Unavailable, "client side tokens disabled")
}
