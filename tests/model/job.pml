/* SPDX-License-Identifier: MIT */
/*
 * The life of jobs on one DUT, for spin: submission, records, the lock and its way to the executor,
 * the lent console, power requests, the end and its import, and the switching off; with dutd and
 * executors killed at every step, and, one variant each, a reservation, an executor that is stopped
 * and declared dead, reloads, an adapter that is pulled, and a second dutd.
 *
 * An atomic{} is what a kill cannot divide: a system call, or a commit. What survives a kill of
 * dutd stands in global variables that say where they live; what is declared in Dutd is its memory.
 * "mirrors:" names the functions that a part stands for. Each rule can be taken away, with
 * -DNAME=0, and then something below is violated: test_model.py has both checked.
 */

/* ---- the rules ---- */

#ifndef LOCK_IS_INHERITED
#define LOCK_IS_INHERITED 1 /* mirrors: lease_start (0: the executor locks for itself, later) */
#endif
#ifndef LOCK_TELLS
#define LOCK_TELLS 1 /* mirrors: board_conclude (0: whoever does not answer is not there) */
#endif
#ifndef LOCK_FILE_STAYS
#define LOCK_FILE_STAYS 1 /* mirrors: file_lock (0: a restart removes it, the next is another) */
#endif
#ifndef START_IS_COMMITTED
#define START_IS_COMMITTED 1 /* mirrors: lease_commit (0: recorded when the executor is there) */
#endif
#ifndef OFF_IS_OWED
#define OFF_IS_OWED 1 /* mirrors: lease_commit (0: recorded nowhere: the end, then off) */
#endif
#ifndef HOLDER_READS
#define HOLDER_READS 1 /* mirrors: line_read (0: dutd reads as soon as it starts) */
#endif
#ifndef ONE_DUTD
#define ONE_DUTD 1 /* mirrors: daemon_new */
#endif
#ifndef END_ONCE
#define END_ONCE 1 /* mirrors: job_set_end, job_next (0: whoever comes last) */
#endif
#ifndef STARTED_DECIDES
#define STARTED_DECIDES 1 /* mirrors: decide_end, try_again (0: without a result it waits again) */
#endif
#ifndef ASKED_AGAIN
#define ASKED_AGAIN 1 /* mirrors: control_ask (0: a request dies with the dutd that had it) */
#endif
#ifndef CANCEL_IS_COMMITTED
#define CANCEL_IS_COMMITTED 1 /* mirrors: cancel (0: it is acknowledged from memory) */
#endif
#ifndef CONSOLE_AT_ANY_TIME
#define CONSOLE_AT_ANY_TIME 1 /* mirrors: loan_take (0: not while an answer is awaited) */
#endif
#ifndef ONE_SWITCHING
#define ONE_SWITCHING 1 /* mirrors: outlet_request (0: without asking for an earlier dutd's) */
#endif
#ifndef DEAD_WHEN_UNLOCKED
#define DEAD_WHEN_UNLOCKED 1 /* mirrors: lease_kill (0: declared dead is as good as dead) */
#endif
#ifndef RESERVED_WAITS
#define RESERVED_WAITS 1 /* mirrors: board_is_idle_for (0: any job gets an idle board) */
#endif
#ifndef RESERVATION_IS_COMMITTED
#define RESERVATION_IS_COMMITTED 1 /* mirrors: reservation_take (0: acknowledged from memory) */
#endif
#ifndef LEAVING_STAYS
#define LEAVING_STAYS 1 /* mirrors: board_renew (0: a reload drops a board in use) */
#endif

/* ---- how much happens ---- */

#ifndef DUTD_KILLS
#define DUTD_KILLS 2
#endif
#ifndef EXECUTOR_KILLS
#define EXECUTOR_KILLS 1
#endif
#ifndef CANCELS
#define CANCELS 1
#endif
#ifndef SECOND_DUTD
#define SECOND_DUTD 0
#endif
#ifndef PULLS
#define PULLS 0
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef RESERVATIONS
#define RESERVATIONS 0
#endif
#ifndef RELOADS
#define RELOADS 0
#endif
#ifndef ENDLESS
#define ENDLESS 0 /* job 0 ends by a cancel alone */
#endif

#define JOBS 2 /* job 0 is somebody's, job 1 that of who reserves */
#define EXECUTORS 4
#define ANY(what) (what[0] || what[1] || what[2] || what[3])

/* ---- what there is ---- */

#define WAITING 1
#define STARTING 2 /* and running: the record does not tell them apart */
#define ENDED 3

#define PASS 1
#define CANCELLED 2
#define INCOMPLETE 3

#define OFF 1
#define ON 2

/* The records: they change by commits. */
byte record[JOBS], status[JOBS], ends[JOBS];
bit cancel[JOBS]; /* asked for and committed */
bit owed;	  /* off_pending */
bit reserved;

/* The job's folder. */
byte result[JOBS];
bit started[JOBS];

/* The kernel: copies of the lock, and who is in read(2) of the console, a bit for each process. */
byte lock, readers;
byte daemon_lock;

/* Executors and what lies in their sockets. */
bit alive[EXECUTORS], stopped[EXECUTORS], killed[EXECUTORS];
bit listening[EXECUTORS], lent[EXECUTORS], cancelling[EXECUTORS];
bit booted[EXECUTORS]; /* its board runs, as far as it knows */
byte job_of[EXECUTORS], control[EXECUTORS], request[EXECUTORS], answer[EXECUTORS];

/* The world. */
bit power;
byte command[2]; /* on their way to the switch, of this dutd and of the one before */
bit cancel_acknowledged, reservation_acknowledged;
byte boots[JOBS];

/* Of the model itself. */
byte submitted, n_cancels, n_executors, n_reservations, n_reloads;
byte owners; /* executors that act for a job */
byte dutd_kills, executor_kills, stops, pulls, lives;
bit up[2], dutd_killed[2];

#define DUTD(d) (1 << (d))
#define EXECUTOR(e) (4 << (e))
#define AT_MOST_ONE(bits) (((bits) & ((bits) - 1)) == 0)
#define READS(who) readers = readers | who; assert(AT_MOST_ONE(readers))

/* ---- the executor ---- */

/*
 * mirrors: control_ask, session_answered. A request stays until it is answered, over as many dutds
 * as it takes. (That answers carry its number is a second lock: no request is ever given up for
 * another one.)
 */
inline ask(what)
{
	atomic { control[e] != 0 -> request[e] = what; answer[e] = 0 };
	do
	:: atomic { answer[e] == what -> answer[e] = 0; request[e] = 0; break }
#if CONSOLE_AT_ANY_TIME
	:: atomic { lent[e] && !(readers & EXECUTOR(e)) -> READS(EXECUTOR(e)) }
#endif
	:: cancelling[e] -> request[e] = 0; r = CANCELLED; goto conclude
	:: control[e] == 0 -> request[e] = 0; r = INCOMPLETE; goto conclude /* daemon_lost */
	:: ASKED_AGAIN && control[e] == 0 -> control[e] != 0
	od
}

proctype Executor(byte e) provided (!stopped[e])
{
	byte j, r;

	{
		j = job_of[e];
#if !LOCK_IS_INHERITED
		if
		:: atomic { lock == 0 -> lock = lock | EXECUTOR(e) }
		:: lock != 0 -> goto out
		fi;
#endif
		atomic { owners = owners | EXECUTOR(e); assert(AT_MOST_ONE(owners)) };
		assert(record[j] != ENDED);
		assert(!(reservation_acknowledged && j == 0));
		listening[e] = 1;
		do /* mirrors: on_go, on_lend */
		:: atomic { lent[e] -> READS(EXECUTOR(e)) } -> break
		:: cancelling[e] -> r = CANCELLED; goto conclude
		:: control[e] == 0 -> r = INCOMPLETE; goto conclude
		od;
		started[j] = 1;
		ask(OFF);
		atomic { boots[j]++; assert(boots[j] == 1) };
		ask(ON);
		booted[e] = 1;
		if
		:: !(ENDLESS && j == 0) -> r = PASS
		:: cancelling[e] -> r = CANCELLED
		fi;
conclude:	/* mirrors: session_end, result_write */
		booted[e] = 0;
		atomic { assert(record[j] != ENDED); result[j] = r };
out:		skip
	} unless { killed[e] };
	atomic { /* the kernel takes back what it had */
		owners = owners & ~EXECUTOR(e);
		lock = lock & ~EXECUTOR(e);
		readers = readers & ~EXECUTOR(e);
		listening[e] = 0;
		control[e] = 0;
		booted[e] = 0;
		alive[e] = 0
	}
}

/* ---- the switch ---- */

/* A command that comes late must not cut a board that runs. */
active proctype Switch()
{
end:	do
	:: atomic { command[0] == OFF -> assert(!ANY(booted)); power = 0; command[0] = 0 }
	:: atomic { command[1] == OFF -> assert(!ANY(booted)); power = 0; command[1] = 0 }
	:: atomic { command[0] == ON -> power = 1; command[0] = 0 }
	:: atomic { command[1] == ON -> power = 1; command[1] = 0 }
	od
}

/* mirrors: outlet_request. The helper of a dutd that was killed may still be at it. */
inline switch_to(what)
{
#if ONE_SWITCHING
	atomic { command[0] == 0 && command[1] == 0 -> command[me] = what };
#else
	atomic { command[me] == 0 -> command[me] = what };
#endif
	command[me] == 0
}

/* ---- dutd ---- */

#define CHILD_IS_GONE (child == 0 || !alive[child - 1])
#if LOCK_IS_INHERITED && LOCK_TELLS
#define NO_EXECUTOR ((lock & DUTD(d)) != 0)
#elif LOCK_TELLS
#define NO_EXECUTOR (lock == 0 && CHILD_IS_GONE)
#else
#define NO_EXECUTOR (!ANY(listening) && CHILD_IS_GONE)
#endif

#define NONE_STARTED (record[0] != STARTING && record[1] != STARTING)
#define MAY_START(job) (record[job] == WAITING && \
			!(RESERVED_WAITS && job == 0 && (reserved || reserved_here)))
#define IS_CANCELLED(job) (cancel[job] || (job == 0 && cancel_here))

/* mirrors: job_set_end. */
inline end_job(how)
{
#if END_ONCE
	atomic {
		if
		:: record[j] != ENDED -> record[j] = ENDED; ends[j]++; status[j] = how
		:: else
		fi
	}
#else
	atomic { record[j] = ENDED; ends[j]++; status[j] = how }
#endif
}

/* mirrors: lease_adopt, lease_lend, lease_cancel, outlet_continue. */
#define SERVE(k) \
	:: atomic { alive[k] && listening[k] && control[k] == 0 -> control[k] = d + 1 } \
	:: atomic { alive[k] && control[k] == d + 1 && !lent[k] && !(readers & DUTD(d)) -> \
		lent[k] = 1 } \
	:: atomic { alive[k] && control[k] == d + 1 && !cancelling[k] && \
		IS_CANCELLED(job_of[k]) -> cancelling[k] = 1 } \
	:: atomic { alive[k] && control[k] == d + 1 && request[k] != 0 && answer[k] == 0 && \
		(PULLS == 0 || lent[k] == 0 || request[k] != ON || \
		 (readers & EXECUTOR(k))) -> v = request[k] }; \
		switch_to(v); \
		atomic { \
			if \
			:: control[k] == d + 1 -> answer[k] = v \
			:: else \
			fi \
		} \
	:: atomic { stopped[k] && alive[k] && control[k] == d + 1 -> DECLARE_DEAD(k) }

/* mirrors: lease_kill. Silent for too long: it may still wake up, until the kernel says otherwise.
 */
#if DEAD_WHEN_UNLOCKED
#define DECLARE_DEAD(k) killed[k] = 1; stopped[k] = 0
#else
#define DECLARE_DEAD(k) lock = lock & ~EXECUTOR(k)
#endif

/* What runs in the same loop while a commit is under way: a job that waits is cancelled. */
proctype Api(byte d)
{
end:	do
	:: atomic {
		up[d] && n_cancels < CANCELS && record[0] == WAITING ->
			n_cancels++;
			cancel[0] = 1;
			record[0] = ENDED;
			ends[0]++;
			status[0] = CANCELLED;
			cancel_acknowledged = 1
		}
	od
}

proctype Dutd(byte d)
{
	byte j, v, e, child, me;
	bit cancel_here, reserved_here;

again:
	child = 0; v = 0; j = 0; e = 0; cancel_here = 0; reserved_here = 0;
	{
#if ONE_DUTD
		skip;
end_locked:	atomic {
			daemon_lock == 0 -> daemon_lock = d + 1;
			me = lives % 2;
			lives = (lives + 1) % 2;
			up[d] = 1
		};
#else
		atomic { me = d; up[d] = 1 };
#endif
#if !HOLDER_READS
		atomic { READS(DUTD(d)) };
#endif
end_loop:	do
		/* mirrors: submit_handle: the record, then 201. */
		:: atomic { submitted < JOBS -> j = submitted; submitted++; record[j] = WAITING }

		/* mirrors: cancel (of one that runs). */
		:: atomic {
			n_cancels < CANCELS && record[0] == STARTING && result[0] == 0 ->
				n_cancels++;
#if CANCEL_IS_COMMITTED
				cancel[0] = 1;
#endif
				cancel_here = 1
			};
			cancel_acknowledged = 1
#if LOCK_IS_INHERITED
		:: atomic { lock == 0 -> lock = DUTD(d) } /* mirrors: board_begin */
#endif
		/* mirrors: board_conclude, decide_end: one that was started, and whose executor is gone. */
		:: NO_EXECUTOR && !NONE_STARTED ->
			if
			:: record[0] == STARTING -> j = 0
			:: record[1] == STARTING -> j = 1
			:: NONE_STARTED -> goto end_loop
			fi;
			if
			:: result[j] != 0 -> end_job(result[j])
			:: result[j] == 0 && IS_CANCELLED(j) -> end_job(CANCELLED)
			:: result[j] == 0 && !IS_CANCELLED(j) && STARTED_DECIDES && started[j] ->
				end_job(INCOMPLETE)
			:: result[j] == 0 && !IS_CANCELLED(j) && !(STARTED_DECIDES && started[j]) ->
				atomic { record[j] == STARTING -> record[j] = WAITING }
			fi;
#if !OFF_IS_OWED
			switch_to(OFF)
#else
		:: NO_EXECUTOR && NONE_STARTED && owed -> switch_to(OFF); owed = 0
#endif
		/* mirrors: board_start_job: the next one that may have the board. */
		:: NO_EXECUTOR && NONE_STARTED && (MAY_START(0) || MAY_START(1)) && !owed &&
			n_executors < EXECUTORS ->
			if
			:: MAY_START(0) -> j = 0
			:: !MAY_START(0) && MAY_START(1) -> j = 1
			:: else -> goto end_loop
			fi;
			readers = readers & ~DUTD(d);
#if START_IS_COMMITTED
#if END_ONCE
			atomic {
				if
				:: record[j] == WAITING -> record[j] = STARTING; owed = OFF_IS_OWED
				:: else -> goto end_loop
				fi
			};
#else
			atomic { record[j] = STARTING; owed = OFF_IS_OWED };
#endif
#endif
			atomic {
				n_executors < EXECUTORS -> e = n_executors;
				n_executors++;
				alive[e] = 1;
				job_of[e] = j;
#if LOCK_IS_INHERITED
				lock = lock | EXECUTOR(e);
#endif
				child = e + 1;
				run Executor(e)
			};
#if !START_IS_COMMITTED
			atomic { record[j] = STARTING; owed = OFF_IS_OWED };
#endif
#if LOCK_IS_INHERITED
			lock = lock & ~DUTD(d);
#endif
			e = 0

		/* mirrors: line_read. */
		:: atomic { NO_EXECUTOR && NONE_STARTED && !owed && !(readers & DUTD(d)) ->
			READS(DUTD(d)) }

		/* mirrors: reservation_take, reservation_end: it is committed, then acknowledged;
		 * its holder switches; its end owes an `off`, in one commit. */
		:: atomic {
			n_reservations < RESERVATIONS && NO_EXECUTOR && NONE_STARTED && !owed ->
				n_reservations++;
				reserved = RESERVATION_IS_COMMITTED;
				reserved_here = 1
			};
			atomic { (reserved || reserved_here) -> reservation_acknowledged = 1 }
		:: reservation_acknowledged && (reserved || reserved_here) && NO_EXECUTOR &&
			NONE_STARTED && !power -> switch_to(ON)
		:: reservation_acknowledged && (reserved || reserved_here) && NO_EXECUTOR ->
			atomic {
				reservation_acknowledged = 0;
				reserved = 0;
				reserved_here = 0;
				owed = OFF_IS_OWED
			};
#if !OFF_IS_OWED
			switch_to(OFF)
#endif
		/* A reservation whose acknowledgement was lost expires. */
		:: atomic { reserved && !reservation_acknowledged && !reserved_here ->
			reserved = 0; owed = OFF_IS_OWED }

		/* mirrors: board_renew. What the board was is let go, then the new one is opened.
		 * Without the rule a new name brings a new lock. */
		:: atomic {
			n_reloads < RELOADS &&
			(!LEAVING_STAYS || (NO_EXECUTOR && NONE_STARTED && !owed)) ->
				n_reloads++;
				readers = readers & ~DUTD(d);
				lock = (LEAVING_STAYS -> lock & ~DUTD(d) : 0);
				child = 0
			}
		SERVE(0)
		SERVE(1)
		SERVE(2)
		SERVE(3)
		od
	} unless { dutd_killed[d] };
	atomic { /* the kernel takes back what it had */
		if
		:: daemon_lock == d + 1 -> daemon_lock = 0
		:: else
		fi;
		lock = (LOCK_FILE_STAYS -> lock & ~DUTD(d) : 0);
		readers = readers & ~DUTD(d);
		up[d] = 0;
		dutd_killed[d] = 0;
		e = 0;
		do
		:: e < EXECUTORS ->
			if
			:: control[e] == d + 1 ->
				control[e] = 0;
				request[e] = (ASKED_AGAIN -> request[e] : 0);
				lent[e] = (readers & EXECUTOR(e) -> 1 : 0)
			:: else
			fi;
			e++
		:: else -> break
		od;
		e = 0
	};
	goto again
}

/* ---- what happens to them ---- */

#define HIT(k) \
	:: atomic { executor_kills < EXECUTOR_KILLS && alive[k] && !killed[k] -> \
		stopped[k] = 0; killed[k] = 1; executor_kills++ } \
	:: atomic { stops < STOPS && alive[k] && !killed[k] -> stopped[k] = 1; stops++ } \
	:: atomic { stopped[k] -> stopped[k] = 0 }

active proctype Fate()
{
	do
	:: atomic { dutd_kills < DUTD_KILLS && up[0] && !dutd_killed[0] ->
		dutd_killed[0] = 1; dutd_kills++ }
#if SECOND_DUTD
	:: atomic { dutd_kills < DUTD_KILLS && up[1] && !dutd_killed[1] ->
		dutd_killed[1] = 1; dutd_kills++ }
#endif
	HIT(0)
	HIT(1)
	HIT(2)
	:: atomic { pulls < PULLS && alive[0] && (readers & EXECUTOR(0)) -> /* its adapter */
		pulls++; readers = readers & ~EXECUTOR(0); lent[0] = 0 }
	:: submitted == JOBS && record[0] == ENDED && record[1] == ENDED && !ANY(stopped) -> break
	od
}

/* ---- what must hold when nothing more can happen ---- */

active proctype Judge()
{
	timeout ->
	assert(submitted == JOBS);
	assert(record[0] == ENDED && record[1] == ENDED);
	assert(ends[0] == 1 && ends[1] == 1);
	assert(status[0] != 0 && status[1] != 0);
	assert(result[0] == 0 || status[0] == result[0]);
	assert(result[1] == 0 || status[1] == result[1]);
	assert(!(cancel_acknowledged && boots[0] == 0 && status[0] == PASS));
	assert(power == 0 && command[0] == 0 && command[1] == 0);
	assert(!reserved);
	assert(owners == 0)
}

init
{
	atomic {
		run Dutd(0);
		run Api(0);
#if SECOND_DUTD
		run Dutd(1)
#endif
	}
}
