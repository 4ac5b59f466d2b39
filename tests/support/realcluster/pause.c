/* SPDX-License-Identifier: Apache-2.0 */
/* The first process of a pod's sandbox: holds its namespaces, reaps orphans, ends on SIGINT and
 * SIGTERM. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number)
{
	(void)number;
	_exit(0);
}

static void reap(int number)
{
	(void)number;
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

int main(void)
{
	const struct sigaction ending = { .sa_handler = end }, reaping = { .sa_handler = reap };

	if (sigaction(SIGINT, &ending, NULL) || sigaction(SIGTERM, &ending, NULL) ||
	    sigaction(SIGCHLD, &reaping, NULL))
		return 1;
	for (;;)
		pause();
}
