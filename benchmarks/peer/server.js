"use strict";

// What a small team would write in Node instead of this desk: POST /issue-voucher on Express and pg, on the desk's own
// tables with all their rules. It takes the request at its word and asks nobody who they are.
//
// Environment: DATABASE_URL, PORT, PROCESSES (1), POOL (connections of each process).

const cluster = require("node:cluster");
const crypto = require("node:crypto");
const express = require("express");
const { Pool } = require("pg");

// Named statements are prepared once for each connection.
const TAKE = {
  name: "take",
  text: `SELECT id, code, expires_on::text, (SELECT name FROM courses_course WHERE id = $1) AS course
    FROM vouchers_voucher
    WHERE course_id = $1 AND status = 'available' AND valid_until >= CURRENT_DATE
    ORDER BY valid_until, position LIMIT 1 FOR UPDATE SKIP LOCKED`,
};
const BIND = {
  name: "bind",
  text: "UPDATE vouchers_voucher SET status = 'issued', issued_to = $2, issued_at = $3 WHERE id = $1",
};
const ISSUE = {
  name: "issue",
  text: `INSERT INTO vouchers_issuance (course_id, email, order_id, voucher_id, status, caller, issued_at, told_at)
    VALUES ($1, $2, $3, $4, 'issued', 'node', $5, $5) RETURNING id`,
};
const QUEUE = {
  name: "queue",
  text: `INSERT INTO vouchers_delivery (issuance_id, kind, series, email, language, carries_code, status, attempts,
      message_id, provider_id, last_error, fate, fate_reason)
    VALUES ($1, 'voucher', 1, $2, '', true, 'queued', 0, $3, '', '', '', '')`,
};

async function issue(pool, { courseId, email, orderId }) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const { rows } = await client.query({ ...TAKE, values: [courseId] });
    const [voucher] = rows;
    if (!voucher) {
      await client.query("ROLLBACK");
      return null;
    }
    const now = new Date();
    await client.query({ ...BIND, values: [voucher.id, email, now] });
    const issued = await client.query({ ...ISSUE, values: [courseId, email, orderId ?? "", voucher.id, now] });
    const messageId = `<${crypto.randomUUID()}@shop.example>`;
    await client.query({ ...QUEUE, values: [issued.rows[0].id, email, messageId] });
    await client.query("COMMIT");
    return { ...voucher, issuedAt: now };
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

function answer({ courseId, email }, voucher) {
  return {
    status: "issued",
    message: `A voucher for ${voucher.course} is issued to ${email} and sent by email.`,
    voucher: {
      _id: voucher.code,
      courseId,
      used: false,
      issuedTo: email,
      usedOn: null,
      status: "issued",
      issuedOn: `${voucher.issuedAt.toISOString().slice(0, 19)}Z`,
      expiresOn: voucher.expires_on,
    },
  };
}

function serve() {
  const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: Number(process.env.POOL) });
  const app = express();
  app.disable("etag");
  app.disable("x-powered-by");
  app.post("/issue-voucher", express.json(), async (request, response) => {
    const voucher = await issue(pool, request.body);
    if (voucher) {
      response.status(201).json(answer(request.body, voucher));
    } else {
      response.status(409).json({ error: "No voucher is left." });
    }
  });
  app.listen(Number(process.env.PORT), "127.0.0.1");
}

const processes = Number(process.env.PROCESSES);
if (cluster.isPrimary && processes > 1) {
  for (let n = 0; n < processes; n += 1) cluster.fork();
} else {
  serve();
}
