// SPDX-License-Identifier: Apache-2.0

// Package term is the one place where text from the host becomes text for a terminal. In: strings that
// any process on the host may have chosen (arguments, paths, names). Out: one-line text that cannot
// move the cursor, change a colour or forge a line, measured in terminal cells, with our own colours
// around it where the terminal wants them.
package term
