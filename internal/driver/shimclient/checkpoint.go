package shimclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"longshore/internal/core/runtime"
)

// Checkpoint implements runtime.Runtime.
func (c *Client) Checkpoint(ctx context.Context, l runtime.Launch, image string, exit bool) error {
	argv := append(commandLine(l.Runtime), "checkpoint", "--image-path", image, "--work-path", l.Dir)
	if !exit {
		argv = append(argv, "--leave-running")
	}
	out, err := exec.CommandContext(ctx, argv[0], append(argv[1:], l.ID)...).CombinedOutput()
	if err == nil {
		return nil
	}
	words := checkpointWords(string(out))
	if _, lerr := exec.LookPath("criu"); lerr != nil {
		words = strings.TrimPrefix(words+": "+lerr.Error(), ": ")
	}
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return fmt.Errorf("%s: %w", runtimeName(l.Runtime), err)
	}
	return fmt.Errorf("%s did not terminate successfully: %w: %s path= %s", runtimeName(l.Runtime), err, words, filepath.Join(l.Dir, "dump.log"))
}

// Update implements runtime.Runtime.
func (c *Client) Update(ctx context.Context, l runtime.Launch, r *specs.LinuxResources) error {
	document, err := json.Marshal(r)
	if err != nil {
		return err
	}
	argv := append(commandLine(l.Runtime), "update", "--resources", "-", l.ID)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(document)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s did not change the limits: %w: %s", runtimeName(l.Runtime), err, checkpointWords(string(out)))
	}
	return nil
}

// checkpointWords are the last words of the OCI runtime on one line.
func checkpointWords(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
