// The kernel: questions and answers, and whether it is there.

const LINK_PATIENCE = 4000; // milliseconds that a question waits until a pulse is sent, and a pulse until the kernel is said to be silent
const LINK_ALIVE = "page.pulse"; // the question whether it is there
const LINK_PULSE = 20000; // milliseconds between two questions whether it is there
const LINK_GRACE = 30000; // milliseconds until a question is lost that the kernel has neither before it nor answers

/** Asks the kernel. `onSilent(true)` is called where it doesn't answer, `onSilent(false)` when it does again. */
function Link(model, onSilent) {
  const client = Math.random().toString(36).slice(2);
  const waiting = new Map();
  let number = 0;
  let silent = false;

  function hear(message, buffers) {
    setSilent(false);
    if (message.client !== client) return;
    // It gets questions in turn: of those before, what it doesn't work on was answered or never came.
    for (const [ask, question] of waiting)
      if (ask < message.reply && !message.under_way.includes(ask)) question.losing ??= setTimeout(() => lose(ask), LINK_GRACE);
    const question = end(message.reply);
    if (!question) return;
    if (message.error) question.reject(Object.assign(new Error(message.error.text), message.error));
    else question.resolve({ data: message.data, buffers: buffers ?? [] });
  }

  /** A question that waits no longer; undefined if it didn't. */
  function end(ask) {
    const question = waiting.get(ask);
    waiting.delete(ask);
    clearTimeout(question?.timer);
    clearTimeout(question?.losing);
    return question;
  }

  function lose(ask) {
    end(ask)?.reject(Object.assign(new Error("The connection to the kernel lost this: try again."), { lost: true }));
  }

  function setSilent(now) {
    if (now === silent) return;
    silent = now;
    onSilent(now);
  }

  /** An answer: {data, buffers}. A question that can't be sent, or whose answer doesn't come, is rejected as `lost`. */
  function ask(action, args = {}, bytes = null) {
    return new Promise((resolve, reject) => {
      const ask = ++number;
      // What is asked may take long; a pulse doesn't.
      const timer = setTimeout(() => (action === LINK_ALIVE ? setSilent(true) : pulse()), LINK_PATIENCE);
      waiting.set(ask, { resolve, reject, timer });
      try {
        model.send({ ask, client, action, arguments: args }, undefined, bytes ? [bytes] : undefined);
      } catch {
        setSilent(true);
        lose(ask);
      }
    });
  }

  model.on("msg:custom", hear);
  const pulse = () => ask(LINK_ALIVE).catch(() => {});
  const timer = setInterval(pulse, LINK_PULSE);
  return {
    ask,
    isSilent: () => silent,
    close() {
      clearInterval(timer);
      model.off("msg:custom", hear);
      for (const ask of [...waiting.keys()]) end(ask);
    },
  };
}
