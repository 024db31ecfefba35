// SPDX-License-Identifier: Apache-2.0

package file

const childEnv = "VIGIE_FILE_TEST_CHILD"

func child() int { return 0 }
