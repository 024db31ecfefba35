// SPDX-License-Identifier: Apache-2.0

// Package vigiev1 is the generated Go form of the agent's API, version 1. In: the .proto files beside
// it. Out: messages that the server fills and clients read.
package vigiev1
