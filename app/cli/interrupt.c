/* SPDX-License-Identifier: Apache-2.0
 * interrupt.c - signals: Ctrl-C stops the running answer and not the program; a program that is ended from outside leaves
 * the terminal as it found it. Handlers only touch atomics and call what is safe in a handler. */
#include "cli.h"

#include <signal.h>
#include <stdatomic.h>
#include <termios.h>
#include <unistd.h>

static _Atomic(we_session *) target; /* what Ctrl-C cancels: this */
static _Atomic(we_client *) client;  /* or this */
static atomic_bool interrupted, resized, continued;
static atomic_bool stay_alive;

static struct termios terminal_before; /* of standard input, when the program began */
static atomic_bool terminal_known;
static atomic_int paste_fd = -1; /* the terminal that brackets pastes now */

static const char paste_on[] = "\x1b[?2004h", paste_off[] = "\x1b[?2004l";

void cli_paste_mode(int fd, bool on)
{
    const ssize_t n = on ? write(fd, paste_on, sizeof paste_on - 1) : write(fd, paste_off, sizeof paste_off - 1);
    atomic_store(&paste_fd, on && n > 0 ? fd : -1);
}

static void end_by(int number)
{
    const int fd = atomic_load(&paste_fd);
    if (fd >= 0) cli_paste_mode(fd, false);
    if (atomic_load(&terminal_known)) tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
    signal(number, SIG_DFL);
    raise(number);
}

static void on_interrupt(int number)
{
    we_session *session = atomic_load(&target);
    we_client *asked = atomic_load(&client);
    atomic_store(&interrupted, true);
    if (session)
        we_session_cancel(session);
    else if (asked)
        we_client_cancel(asked);
    else if (!atomic_load(&stay_alive))
        end_by(number);
}

static void on_window(int number) { atomic_store(number == SIGCONT ? &continued : &resized, true); }

static void handle(int number, void (*fn)(int))
{
    struct sigaction action = { 0 };
    action.sa_handler = fn;
    action.sa_flags =
        SA_RESTART; /* a write to a slow terminal goes on; the line editor waits with pselect, which doesn't */
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

void cli_interrupt_install(bool stay)
{
    atomic_store(&stay_alive, stay);
    if (tcgetattr(STDIN_FILENO, &terminal_before) == 0) atomic_store(&terminal_known, true);
    handle(SIGINT, on_interrupt);
    if (!stay) return;
    handle(SIGTERM, end_by);
    handle(SIGHUP, end_by);
    handle(SIGWINCH, on_window);
    handle(SIGCONT, on_window);
}

static atomic_int caught;

static void on_caught(int number)
{
    atomic_store(&caught, number);
    atomic_store(&interrupted, true);
}

void cli_interrupt_catch(void)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    for (size_t i = 0; i < WE_COUNT(numbers); i++) handle(numbers[i], on_caught);
}

int cli_interrupt_status(void)
{
    const int number = atomic_load(&caught);
    return number ? 128 + number : CLI_INTERRUPTED;
}

void cli_interrupt_target(we_session *session)
{
    if (session) atomic_store(&interrupted, false);
    atomic_store(&target, session);
}

void cli_interrupt_client(we_client *asked)
{
    if (asked) atomic_store(&interrupted, false);
    atomic_store(&client, asked);
}

bool cli_interrupted(void) { return atomic_load(&interrupted); }

void cli_interrupt_clear(void) { atomic_store(&interrupted, false); }

bool cli_take_resized(void) { return atomic_exchange(&resized, false); }

bool cli_take_continued(void) { return atomic_exchange(&continued, false); }

void cli_echo_off(void)
{
    struct termios now;
    if (!atomic_load(&terminal_known) || tcgetattr(STDIN_FILENO, &now) != 0) return;
    now.c_lflag &= ~(tcflag_t)ECHO;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
}

void cli_echo_restore(void)
{
    if (atomic_load(&terminal_known)) tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_before);
}
