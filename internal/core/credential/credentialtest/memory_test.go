package credentialtest

import (
	"testing"

	"longshore/internal/core/credential"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) credential.Store { return NewMemory() })
}
