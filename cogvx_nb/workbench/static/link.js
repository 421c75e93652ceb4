// The kernel: questions and answers, and whether it is there.

const LINK_PATIENCE = 6000; // milliseconds until a silent kernel is said to be silent
const LINK_PULSE = 20000; // milliseconds between two questions whether it is there

/** Asks the kernel. `onSilent(true)` is called where it doesn't answer, `onSilent(false)` when it does again. */
function Link(model, onSilent) {
  const client = Math.random().toString(36).slice(2);
  const waiting = new Map();
  let number = 0;
  let silent = false;
  let pulsing = false;

  function hear(message, buffers) {
    setSilent(false);
    if (message.client !== client) return;
    const question = waiting.get(message.reply);
    if (!question) return;
    waiting.delete(message.reply);
    clearTimeout(question.timer);
    if (message.error) question.reject(Object.assign(new Error(message.error.text), message.error));
    else question.resolve({ data: message.data, buffers: buffers ?? [] });
  }

  function setSilent(now) {
    if (now === silent) return;
    silent = now;
    onSilent(now);
  }

  /** An answer: {data, buffers}. The promise of a question that is never answered stays open. */
  function ask(action, args = {}, bytes = null) {
    return new Promise((resolve, reject) => {
      const ask = ++number;
      const timer = setTimeout(() => setSilent(true), LINK_PATIENCE);
      waiting.set(ask, { resolve, reject, timer });
      try {
        model.send({ ask, client, action, arguments: args }, undefined, bytes ? [bytes] : undefined);
      } catch {
        setSilent(true);
      }
    });
  }

  async function pulse() {
    if (pulsing) return;
    pulsing = true;
    await ask("page.pulse");
    pulsing = false;
  }

  model.on("msg:custom", hear);
  const timer = setInterval(pulse, LINK_PULSE);
  return {
    ask,
    pulse,
    close() {
      clearInterval(timer);
      model.off("msg:custom", hear);
    },
  };
}
